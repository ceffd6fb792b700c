import com.google.gson.FieldNamingPolicy;
import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import java.io.IOException;
import java.io.InputStream;
import java.io.PrintStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.DigestInputStream;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.util.Base64;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.function.Function;

/** What is the program's and not the SDK's: what it is told, how it reports, and requests without any SDK. */
final class Program {
    static final String FORM = "application/x-www-form-urlencoded";
    static final String JSON = "application/json";
    /** The ways in which a callback server can fail that every client is shown. */
    static final List<String> FAILURES = List.of("500", "not-json", "no-length", "hang");
    /** Put and listed; the last one shows how keys are encoded. */
    static final List<String> LISTED =
        List.of("list/a/1", "list/a/2", "list/b/1", "list/c", "list/d ü+&<.txt");
    static final Gson GSON = new GsonBuilder()
        .setFieldNamingPolicy(FieldNamingPolicy.LOWER_CASE_WITH_UNDERSCORES)
        .disableHtmlEscaping()
        .create();

    private static final PrintStream REPORTS = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    // Version 2 would be asked for in headers of the first request.
    private static final HttpClient HTTP = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();

    private Program() {
    }

    /**
     * The file that the program's argument names.
     *
     * @param callbackUrls by how the server there answers
     * @param templates bodies of callbacks by their media type
     * @param variables custom variables, `x:` included
     * @param folder with text.txt, picture.png and large.bin in it
     */
    record Settings(
        String endpoint,
        String region,
        String bucket,
        String accessKeyId,
        String accessKeySecret,
        Map<String, String> callbackUrls,
        Map<String, String> templates,
        Map<String, String> variables,
        String folder) {

        static Settings load(String path) throws IOException {
            return GSON.fromJson(Files.readString(Path.of(path)), Settings.class);
        }

        Path file(String name) {
            return Path.of(folder, name);
        }

        byte[] read(String name) throws IOException {
            return Files.readAllBytes(file(name));
        }

        /** A callback to the server that answers in this mode, as OSS wants it: JSON in Base64. */
        String callback(String bodyType, String mode) {
            return encoded(Map.of(
                "callbackUrl", callbackUrls.get(mode),
                "callbackBody", templates.get(bodyType),
                "callbackBodyType", bodyType));
        }

        String callbackVariables() {
            return encoded(variables);
        }

        private static String encoded(Map<String, String> values) {
            return Base64.getEncoder().encodeToString(GSON.toJson(values).getBytes(StandardCharsets.UTF_8));
        }
    }

    /** What is told about one step. */
    static final class Report extends LinkedHashMap<String, Object> {
        private static final long serialVersionUID = 1;

        /** With this field too, unless the SDK does not know it. */
        Report with(String field, Object value) {
            if (value != null) {
                put(field, value);
            }
            return this;
        }
    }

    /** Adds to its report all that is known, so that what was known before an error is told beside it. */
    interface Step {
        void run(Report report) throws Throwable;
    }

    /** Prints a line of JSON about a step; an error is told in it as `describe` has it. */
    static void run(String name, Function<Throwable, Report> describe, Step step) {
        Report report = new Report().with("step", name);
        try {
            step.run(report);
        } catch (Throwable error) {
            report.with("error", describe.apply(error));
        }
        REPORTS.println(GSON.toJson(report));
    }

    /** Size and SHA-256 of a content. */
    static Report digest(InputStream content) throws IOException, GeneralSecurityException {
        try (DigestInputStream digested = new DigestInputStream(content, MessageDigest.getInstance("SHA-256"))) {
            long size = 0;
            byte[] buffer = new byte[64 * 1024];
            for (int read = 0; read >= 0; read = digested.read(buffer)) {
                size += read;
            }
            String sha256 = HexFormat.of().formatHex(digested.getMessageDigest().digest());
            return new Report().with("size", size).with("sha256", sha256);
        }
    }

    /** Makes a request as whoever was handed a URL or a form does, and reports the answer. */
    static void send(Report report, String method, URI url, String mime, byte[] content)
        throws IOException, InterruptedException {
        HttpRequest.Builder request = HttpRequest.newBuilder(url);
        request.method(method, content == null ? BodyPublishers.noBody() : BodyPublishers.ofByteArray(content));
        if (mime != null) {
            request.header("Content-Type", mime);
        }
        var answer = HTTP.send(request.build(), BodyHandlers.ofString());
        report
            .with("status", answer.statusCode())
            .with("answer", answer.body())
            .with("etag", answer.headers().firstValue("ETag").orElse(null))
            .with("crc64", answer.headers().firstValue("x-oss-hash-crc64ecma").orElse(null));
    }
}
