import com.aliyun.oss.ClientBuilderConfiguration;
import com.aliyun.oss.ClientException;
import com.aliyun.oss.HttpMethod;
import com.aliyun.oss.OSS;
import com.aliyun.oss.OSSClientBuilder;
import com.aliyun.oss.OSSException;
import com.aliyun.oss.ServiceException;
import com.aliyun.oss.common.auth.DefaultCredentialProvider;
import com.aliyun.oss.common.auth.RequestSigner;
import com.aliyun.oss.common.auth.ServiceSignature;
import com.aliyun.oss.common.comm.SignVersion;
import com.aliyun.oss.common.utils.BinaryUtil;
import com.aliyun.oss.internal.OSSUtils;
import com.aliyun.oss.model.AbortMultipartUploadRequest;
import com.aliyun.oss.model.Bucket;
import com.aliyun.oss.model.BucketList;
import com.aliyun.oss.model.Callback;
import com.aliyun.oss.model.Callback.CalbackBodyType;
import com.aliyun.oss.model.CompleteMultipartUploadRequest;
import com.aliyun.oss.model.CompleteMultipartUploadResult;
import com.aliyun.oss.model.DeleteObjectsRequest;
import com.aliyun.oss.model.GeneratePresignedUrlRequest;
import com.aliyun.oss.model.GenericResult;
import com.aliyun.oss.model.GetObjectRequest;
import com.aliyun.oss.model.InitiateMultipartUploadRequest;
import com.aliyun.oss.model.ListBucketsRequest;
import com.aliyun.oss.model.ListObjectsRequest;
import com.aliyun.oss.model.ListObjectsV2Request;
import com.aliyun.oss.model.ListObjectsV2Result;
import com.aliyun.oss.model.ListPartsRequest;
import com.aliyun.oss.model.OSSObject;
import com.aliyun.oss.model.OSSObjectSummary;
import com.aliyun.oss.model.ObjectListing;
import com.aliyun.oss.model.ObjectMetadata;
import com.aliyun.oss.model.PartETag;
import com.aliyun.oss.model.PutObjectRequest;
import com.aliyun.oss.model.PutObjectResult;
import com.aliyun.oss.model.UploadFileRequest;
import com.aliyun.oss.model.UploadPartRequest;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.time.Duration;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Date;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Predicate;

/** Uploads, reads, lists and deletes with aliyun-sdk-oss, and reports what the SDK tells it. */
final class AliyunSdkOss {
    private static final int PART_SIZE = 300 * 1024;
    private static final Duration PRESIGNED_FOR = Duration.ofMinutes(10);
    private static final String TOKEN = "any-token";

    private final Program.Settings settings;
    private final OSS v4;
    private final OSS v1;
    private final OSS v4WithToken;
    private final OSS v1WithToken;

    private AliyunSdkOss(Program.Settings settings) {
        this.settings = settings;
        v4 = client(SignVersion.V4, null);
        v1 = client(SignVersion.V1, null);
        v4WithToken = client(SignVersion.V4, TOKEN);
        v1WithToken = client(SignVersion.V1, TOKEN);
    }

    public static void main(String[] arguments) throws IOException {
        AliyunSdkOss program = new AliyunSdkOss(Program.Settings.load(arguments[0]));
        program.uploads("form", Program.FORM);
        program.uploads("json", Program.JSON);
        program.failures();
        program.objects();
        program.listings();
        program.buckets();
        List.of(program.v4, program.v1, program.v4WithToken, program.v1WithToken).forEach(OSS::shutdown);
    }

    /** The SDK as its documentation shows it, with the endpoint as the one difference. */
    private OSS client(SignVersion version, String token, RequestSigner... handlers) {
        var configuration = new ClientBuilderConfiguration();
        configuration.setSignerHandlers(List.of(handlers));
        configuration.setSignatureVersion(version);
        return OSSClientBuilder.create()
            .endpoint(settings.endpoint())
            .region(settings.region())
            .credentialsProvider(
                new DefaultCredentialProvider(settings.accessKeyId(), settings.accessKeySecret(), token))
            .clientConfiguration(configuration)
            .build();
    }

    private static void run(String name, Program.Step step) {
        Program.run(name, AliyunSdkOss::describe, step);
    }

    private static Program.Report describe(Throwable error) {
        Program.Report report = new Program.Report().with("type", error.getClass().getName());
        if (error instanceof ServiceException fault) {
            return report
                .with("code", fault.getErrorCode())
                .with("message", fault.getErrorMessage())
                .with("ec", fault.getEC())
                .with("request_id", fault.getRequestId());
        }
        return report.with("message", error.toString());
    }

    private interface Upload {
        void run(Program.Report report, String key) throws Throwable;
    }

    /** A step that uploads, and after it reports how the SDK reads the object back, or that it cannot. */
    private void upload(String name, String key, Upload upload) {
        run(name, report -> {
            report.with("key", key);
            try {
                upload.run(report, key);
            } finally {
                try (OSSObject object = v4.getObject(settings.bucket(), key)) {
                    Program.Report stored = Program.digest(object.getObjectContent());
                    report.with("stored", stored.with("mime", object.getObjectMetadata().getContentType()));
                } catch (OSSException fault) {
                    report.with("unreadable", fault.toString());
                }
            }
        });
    }

    private void uploads(String kind, String bodyType) {
        String suffix = " ü+&" + kind;
        Callback callback = callback(bodyType, "ok");
        upload("put-bytes " + kind, "java/put-bytes" + suffix + ".txt", (report, key) ->
            put(report, v4, key, callback));
        upload("put-file " + kind, "java/put-file" + suffix + ".png", (report, key) ->
            put(report, v4, callback, new PutObjectRequest(settings.bucket(), key, file("picture.png"))));
        upload("put-stream " + kind, "java/put-stream" + suffix + ".bin", (report, key) -> {
            // A stream of unknown length, which the SDK sends in chunks.
            try (InputStream stream = Files.newInputStream(settings.file("large.bin"))) {
                put(report, v4, callback, new PutObjectRequest(settings.bucket(), key, stream));
            }
        });
        upload("put-v1 " + kind, "java/put-v1" + suffix + ".txt", (report, key) ->
            put(report, v1, key, callback));
        upload("put-token " + kind, "java/put-token" + suffix + ".txt", (report, key) ->
            put(report, v4WithToken, key, callback));
        upload("multipart " + kind, "java/multipart" + suffix + ".bin", (report, key) ->
            multipart(report, v4, key, callback));
        upload("multipart-v1 " + kind, "java/multipart-v1" + suffix + ".bin", (report, key) ->
            multipart(report, v1, key, callback));
        upload("complete-all " + kind, "java/complete-all" + suffix + ".bin", (report, key) ->
            completeAll(report, key, callback));
        upload("uploader " + kind, "java/uploader" + suffix + ".bin", (report, key) ->
            uploader(report, v4, key, callback));
        upload("uploader-resumed " + kind, "java/uploader-resumed" + suffix + ".bin", (report, key) ->
            resumed(report, key, callback));
        upload("presigned-v4 " + kind, "java/presigned-v4" + suffix + ".txt", (report, key) ->
            presigned(report, v4, key, bodyType, "ok"));
        upload("presigned-v1 " + kind, "java/presigned-v1" + suffix + ".txt", (report, key) ->
            presigned(report, v1, key, bodyType, "ok"));
        upload("presigned-token " + kind, "java/presigned-token" + suffix + ".txt", (report, key) ->
            presigned(report, v1WithToken, key, bodyType, "ok"));
        upload("form-post " + kind, "java/form-post" + suffix + ".txt", (report, key) ->
            postForm(report, key, callback));
    }

    /** The SDK writes these strings into JSON as they are, so whoever uses it has to escape them. */
    private Callback callback(String bodyType, String mode) {
        Callback callback = new Callback();
        callback.setCallbackUrl(escaped(settings.callbackUrls().get(mode)));
        callback.setCallbackBody(escaped(settings.templates().get(bodyType)));
        callback.setCalbackBodyType(bodyType.equals(Program.JSON) ? CalbackBodyType.JSON : CalbackBodyType.URL);
        settings.variables().forEach((name, value) -> callback.addCallbackVar(name, escaped(value)));
        return callback;
    }

    private static String escaped(String text) {
        String quoted = Program.GSON.toJson(text);
        return quoted.substring(1, quoted.length() - 1);
    }

    private File file(String name) {
        return settings.file(name).toFile();
    }

    private void put(Program.Report report, OSS client, String key, Callback callback) throws IOException {
        byte[] text = settings.read("text.txt");
        ObjectMetadata metadata = new ObjectMetadata();
        metadata.setContentLength(text.length);
        put(report, client, callback,
            new PutObjectRequest(settings.bucket(), key, new ByteArrayInputStream(text), metadata));
    }

    private static void put(Program.Report report, OSS client, Callback callback, PutObjectRequest request)
        throws IOException {
        request.setCallback(callback);
        PutObjectResult result = client.putObject(request);
        tell(report.with("etag", result.getETag()), result);
    }

    /** With a callback the SDK hands out the answer, whose content has to be closed. */
    private static void tell(Program.Report report, GenericResult result) throws IOException {
        try (InputStream answer = result.getResponse().getContent()) {
            report
                .with("status", result.getResponse().getStatusCode())
                .with("crc64", result.getServerCRC() == null ? null : Long.toUnsignedString(result.getServerCRC()))
                .with("answer", new String(answer.readAllBytes(), StandardCharsets.UTF_8));
        }
    }

    private void multipart(Program.Report report, OSS client, String key, Callback callback) throws IOException {
        String id = client.initiateMultipartUpload(new InitiateMultipartUploadRequest(settings.bucket(), key))
            .getUploadId();
        complete(report, client, key, id, uploadedParts(client, key, id), callback);
    }

    /** Without a list of parts: OSS takes all that there are. */
    private void completeAll(Program.Report report, String key, Callback callback) throws IOException {
        String id = v4.initiateMultipartUpload(new InitiateMultipartUploadRequest(settings.bucket(), key))
            .getUploadId();
        uploadedParts(v4, key, id);
        complete(report, v4, key, id, null, callback);
    }

    private List<PartETag> uploadedParts(OSS client, String key, String id) throws IOException {
        byte[] content = settings.read("large.bin");
        List<PartETag> parts = new ArrayList<>();
        for (int start = 0; start < content.length; start += PART_SIZE) {
            int size = Math.min(PART_SIZE, content.length - start);
            InputStream part = new ByteArrayInputStream(content, start, size);
            parts.add(client
                .uploadPart(new UploadPartRequest(settings.bucket(), key, id, parts.size() + 1, part, size))
                .getPartETag());
        }
        return parts;
    }

    private void complete(
        Program.Report report, OSS client, String key, String id, List<PartETag> parts, Callback callback)
        throws IOException {
        var request = new CompleteMultipartUploadRequest(settings.bucket(), key, id, parts);
        request.setCallback(callback);
        if (parts == null) {
            request.addHeader("x-oss-complete-all", "yes");
        }
        CompleteMultipartUploadResult result = client.completeMultipartUpload(request);
        tell(report.with("etag", result.getETag()), result);
    }

    private void uploader(Program.Report report, OSS client, String key, Callback callback) throws Throwable {
        var request = new UploadFileRequest(settings.bucket(), key, file("large.bin").getPath(), PART_SIZE, 3, true);
        request.setCallback(callback);
        CompleteMultipartUploadResult result = client.uploadFile(request).getMultipartUploadResult();
        tell(report.with("etag", result.getETag()), result);
    }

    /** An upload that breaks off before its second part, and one that must not send any other. */
    private void resumed(Program.Report report, String key, Callback callback) throws Throwable {
        String late = "2";
        OSS first = client(SignVersion.V4, null, partsIf(number -> !number.equals(late)));
        OSS second = client(SignVersion.V4, null, partsIf(late::equals));
        try {
            uploader(report, first, key, callback);
            throw new IllegalStateException("the first upload did not break off");
        } catch (ClientException broken) {
            uploader(report, second, key, callback);
        } finally {
            first.shutdown();
            second.shutdown();
        }
    }

    /** Lets only those parts pass whose number is allowed. */
    private static RequestSigner partsIf(Predicate<String> allowed) {
        return request -> {
            String number = request.getParameters().get("partNumber");
            if (number != null && !allowed.test(number)) {
                throw new ClientException("part " + number + " is held back");
            }
        };
    }

    /** Hands a URL to a client that knows nothing of OSS. The callback is in the URL's query. */
    private void presigned(Program.Report report, OSS client, String key, String bodyType, String mode)
        throws Exception {
        var request = new GeneratePresignedUrlRequest(settings.bucket(), key, HttpMethod.PUT);
        request.setExpiration(Date.from(Instant.now().plus(PRESIGNED_FOR)));
        request.setContentType("text/plain");
        request.addQueryParameter("callback", settings.callback(bodyType, mode));
        request.addQueryParameter("callback-var", settings.callbackVariables());
        URI url = client.generatePresignedUrl(request).toURI();
        Program.send(report, "PUT", url, "text/plain", settings.read("text.txt"));
    }

    /**
     * Uploads text.txt by a form in the manner of the SDK's sample: signed by version 1 under a policy that pins
     * nothing, and the part of the file has a name and a media type.
     */
    private void postForm(Program.Report report, String key, Callback callback) throws Exception {
        String policy = BinaryUtil.toBase64String(
            "{\"expiration\": \"2120-01-01T12:00:00.000Z\",\"conditions\": [[\"content-length-range\", 0, 104857600]]}"
                .getBytes(StandardCharsets.UTF_8));
        Map<String, String> fields = new LinkedHashMap<>();
        fields.put("key", key);
        fields.put("Content-Disposition", "attachment;filename=text.txt");
        fields.put("callback",
            BinaryUtil.toBase64String(OSSUtils.jsonizeCallback(callback).getBytes(StandardCharsets.UTF_8)));
        fields.putAll(settings.variables());
        fields.put("OSSAccessKeyId", settings.accessKeyId());
        fields.put("policy", policy);
        fields.put("Signature", ServiceSignature.create().computeSignature(settings.accessKeySecret(), policy));

        String boundary = "9431149156168";
        StringBuilder opening = new StringBuilder();
        fields.forEach((name, value) -> opening.append(
            "--%s\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n%s\r\n".formatted(boundary, name, value)));
        opening.append("--%s\r\nContent-Disposition: form-data; name=\"file\"; filename=\"text.txt\"\r\n"
            .formatted(boundary));
        opening.append("Content-Type: text/plain\r\n\r\n");
        ByteArrayOutputStream form = new ByteArrayOutputStream();
        form.writeBytes(opening.toString().getBytes(StandardCharsets.UTF_8));
        form.writeBytes(settings.read("text.txt"));
        form.writeBytes("\r\n--%s--\r\n".formatted(boundary).getBytes(StandardCharsets.UTF_8));
        URI url = URI.create(settings.endpoint() + "/" + settings.bucket());
        Program.send(report, "POST", url, "multipart/form-data; boundary=" + boundary, form.toByteArray());
    }

    private void failures() {
        for (String mode : Program.FAILURES) {
            upload("failed put " + mode, "java/failed-put " + mode + ".txt", (report, key) ->
                put(report, v4, key, callback(Program.JSON, mode)));
        }
        upload("failed multipart 500", "java/failed-multipart.bin", (report, key) ->
            multipart(report, v4, key, callback(Program.JSON, "500")));
        upload("failed uploader 500", "java/failed-uploader.bin", (report, key) ->
            uploader(report, v4, key, callback(Program.JSON, "500")));
        upload("failed presigned-v4 500", "java/failed-presigned.txt", (report, key) ->
            presigned(report, v4, key, Program.JSON, "500"));
        upload("failed form-post 500", "java/failed-form-post.txt", (report, key) ->
            postForm(report, key, callback(Program.JSON, "500")));
        upload("failed put refused", "java/failed-refused.txt", (report, key) -> {
            var request = new PutObjectRequest(settings.bucket(), key, file("text.txt"));
            request.addHeader("x-oss-callback", "this is not Base64");
            v4.putObject(request);
        });
    }

    private void objects() {
        String bucket = settings.bucket();
        String key = "java/object with headers.txt";
        run("headers", report -> {
            ObjectMetadata metadata = new ObjectMetadata();
            metadata.setContentType("text/markdown");
            metadata.setCacheControl("no-cache");
            metadata.setContentDisposition("attachment");
            metadata.addUserMetadata("author", "a writer");
            v4.putObject(bucket, key, file("text.txt"), metadata);
            ObjectMetadata head = v4.getObjectMetadata(bucket, key);
            report
                .with("mime", head.getContentType())
                .with("cache_control", head.getCacheControl())
                .with("content_disposition", head.getContentDisposition())
                .with("author", head.getUserMetadata().get("author"))
                .with("size", head.getContentLength());
        });
        run("range", report -> {
            GetObjectRequest request = new GetObjectRequest(bucket, key).withRange(2, 5);
            request.addHeader("x-oss-range-behavior", "standard");
            report.with("text", text(request));
        });
        run("unchanged", report -> {
            GetObjectRequest request = new GetObjectRequest(bucket, key);
            request.setNonmatchingETagConstraints(List.of(v4.getSimplifiedObjectMeta(bucket, key).getETag()));
            text(request);
        });
        run("other version", report -> {
            GetObjectRequest request = new GetObjectRequest(bucket, key);
            request.setMatchingETagConstraints(List.of("\"0\""));
            text(request);
        });
        run("missing object", report -> text(new GetObjectRequest(bucket, "java/nothing")));
        run("missing bucket", report -> text(new GetObjectRequest("no-such-bucket", key)));
        run("image info", report -> {
            String picture = "java/picture.png";
            v4.putObject(bucket, picture, file("picture.png"));
            GetObjectRequest request = new GetObjectRequest(bucket, picture);
            request.setProcess("image/info");
            report.with("answer", text(request));
        });
        run("presigned get", report -> {
            Date end = Date.from(Instant.now().plus(PRESIGNED_FOR));
            Program.send(report, "GET", v4.generatePresignedUrl(bucket, key, end).toURI(), null, null);
        });
        run("aborted upload", report -> {
            String id = v4.initiateMultipartUpload(new InitiateMultipartUploadRequest(bucket, key)).getUploadId();
            byte[] part = "part".getBytes(StandardCharsets.UTF_8);
            v4.uploadPart(new UploadPartRequest(bucket, key, id, 1, new ByteArrayInputStream(part), part.length));
            report.with("parts", v4.listParts(new ListPartsRequest(bucket, key, id)).getParts().size());
            v4.abortMultipartUpload(new AbortMultipartUploadRequest(bucket, key, id));
            v4.listParts(new ListPartsRequest(bucket, key, id));
        });
    }

    private String text(GetObjectRequest request) throws IOException {
        try (OSSObject object = v4.getObject(request)) {
            return new String(object.getObjectContent().readAllBytes(), StandardCharsets.UTF_8);
        }
    }

    private void listings() {
        String bucket = settings.bucket();
        run("listing", report -> {
            for (String key : Program.LISTED) {
                v4.putObject(bucket, key, new ByteArrayInputStream(key.getBytes(StandardCharsets.UTF_8)));
            }
            List<String> keys = new ArrayList<>();
            List<String> prefixes = new ArrayList<>();
            int pages = 0;
            ListObjectsRequest request =
                new ListObjectsRequest(bucket).withPrefix("list/").withDelimiter("/").withMaxKeys(2);
            ObjectListing page;
            do {
                page = v4.listObjects(request);
                page.getObjectSummaries().stream().map(OSSObjectSummary::getKey).forEach(keys::add);
                prefixes.addAll(page.getCommonPrefixes());
                request.setMarker(page.getNextMarker());
                pages++;
            } while (page.isTruncated());
            report.with("keys", keys).with("prefixes", prefixes).with("pages", pages);
        });
        run("listing v2", report -> {
            List<String> keys = new ArrayList<>();
            List<Long> sizes = new ArrayList<>();
            int pages = 0;
            ListObjectsV2Request request =
                new ListObjectsV2Request(bucket).withPrefix("list/").withStartAfter("list/a/1").withMaxKeys(2);
            ListObjectsV2Result page;
            do {
                page = v4.listObjectsV2(request);
                page.getObjectSummaries().stream().map(OSSObjectSummary::getKey).forEach(keys::add);
                page.getObjectSummaries().stream().map(OSSObjectSummary::getSize).forEach(sizes::add);
                request.setContinuationToken(page.getNextContinuationToken());
                pages++;
            } while (page.isTruncated());
            report.with("keys", keys).with("sizes", sizes).with("pages", pages);
        });
        run("deleting", report -> {
            String key = Program.LISTED.get(0);
            report.with("before", v4.doesObjectExist(bucket, key));
            v4.deleteObject(bucket, key);
            report.with("after", v4.doesObjectExist(bucket, key));
        });
        run("batch deleting", report -> {
            List<String> keys = Program.LISTED.subList(1, Program.LISTED.size());
            DeleteObjectsRequest request = new DeleteObjectsRequest(bucket).withKeys(keys);
            report.with("deleted", v4.deleteObjects(request).getDeletedObjects());
            report.with("left", v4.doesObjectExist(bucket, keys.get(0)));
        });
    }

    private void buckets() {
        String name = "made-by-java";
        run("buckets", report -> {
            report.with("made", name);
            v4.createBucket(name);
            List<String> names = new ArrayList<>();
            ListBucketsRequest request = new ListBucketsRequest().withMaxKeys(1);
            BucketList page;
            do {
                page = v4.listBuckets(request);
                page.getBucketList().stream().map(Bucket::getName).forEach(names::add);
                request.setMarker(page.getNextMarker());
            } while (page.isTruncated());
            report
                .with("names", names)
                .with("info", v4.getBucketInfo(name).getBucket().getName())
                .with("location", v4.getBucketLocation(name));
            v4.deleteBucket(name);
            report.with("left", v4.doesBucketExist(name));
        });
    }
}
