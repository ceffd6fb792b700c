// Command sdkv2 uploads, reads, lists and deletes with alibabacloud-oss-go-sdk-v2, and reports what the SDK tells it.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss"
	"github.com/aliyun/alibabacloud-oss-go-sdk-v2/oss/credentials"

	"oss-standin-clients/program"
)

const partSize = 300 * 1024

var settings = program.Load()
var background = context.Background()

func main() {
	steps := program.Steps{Describe: describe}
	for _, kind := range program.Kinds {
		uploads(steps, kind.Name, kind.BodyType)
	}
	failures(steps)
	objects(steps)
	listings(steps)
	buckets(steps)
}

// client is the SDK as its documentation shows it, with the endpoint as the one difference.
func client(token string, version oss.SignatureVersionType) *oss.Client {
	provider := credentials.NewStaticCredentialsProvider(settings.AccessKeyID, settings.AccessKeySecret, token)
	return oss.NewClient(oss.LoadDefaultConfig().
		WithCredentialsProvider(provider).
		WithRegion(settings.Region).
		WithEndpoint(settings.Endpoint).
		WithSignatureVersion(version))
}

func describe(err error) program.Report {
	var service *oss.ServiceError
	if !errors.As(err, &service) {
		return nil
	}
	return program.Report{
		"type":       fmt.Sprintf("%T", service),
		"status":     service.StatusCode,
		"code":       service.Code,
		"message":    service.Message,
		"ec":         service.EC,
		"request_id": service.RequestID,
	}
}

func uploads(steps program.Steps, kind, bodyType string) {
	v4, v1 := client("", oss.SignatureVersionV4), client("", oss.SignatureVersionV1)
	upload := func(name, extension string, with func(key string) (program.Report, error)) {
		steps.Run(name+" "+kind, func() (program.Report, error) {
			key := "go-v2/" + name + " ü+&" + kind + extension
			report, err := with(key)
			return stored(report, key), err
		})
	}
	upload("put-bytes", ".txt", func(key string) (program.Report, error) {
		return put(v4, key, bodyType, "ok")
	})
	upload("put-file", ".png", func(key string) (program.Report, error) {
		result, err := v4.PutObjectFromFile(background, request(key, bodyType, "ok"), settings.File("picture.png"))
		return putReport(result, err)
	})
	upload("put-stream", ".bin", func(key string) (program.Report, error) {
		streamed := request(key, bodyType, "ok")
		streamed.Body = program.OneWay(settings.Read("large.bin"))
		result, err := v4.PutObject(background, streamed)
		return putReport(result, err)
	})
	upload("put-v1", ".txt", func(key string) (program.Report, error) {
		return put(v1, key, bodyType, "ok")
	})
	upload("put-token", ".txt", func(key string) (program.Report, error) {
		return put(client("any-token", oss.SignatureVersionV4), key, bodyType, "ok")
	})
	upload("multipart", ".bin", func(key string) (program.Report, error) {
		return multipart(v4, key, bodyType, "ok")
	})
	upload("multipart-v1", ".bin", func(key string) (program.Report, error) {
		return multipart(v1, key, bodyType, "ok")
	})
	upload("uploader", ".bin", func(key string) (program.Report, error) {
		return uploader(key, bodyType, "ok")
	})
	upload("presigned-v4", ".txt", func(key string) (program.Report, error) {
		return presigned(v4, key, bodyType, "ok")
	})
	upload("presigned-v1", ".txt", func(key string) (program.Report, error) {
		return presigned(v1, key, bodyType, "ok")
	})
	upload("presigned-token", ".txt", func(key string) (program.Report, error) {
		return presigned(client("any-token", oss.SignatureVersionV4), key, bodyType, "ok")
	})
	upload("form-post", ".txt", func(key string) (program.Report, error) {
		return program.PostForm(settings, key, "text/plain", bodyType, "ok")
	})
}

// stored adds how the SDK reads the object back, or that it cannot.
func stored(report program.Report, key string) program.Report {
	told := program.Report{"key": key}
	for field, value := range report {
		told[field] = value
	}
	result, err := client("", oss.SignatureVersionV4).GetObject(background, &oss.GetObjectRequest{
		Bucket: oss.Ptr(settings.Bucket), Key: oss.Ptr(key),
	})
	if err != nil {
		told["unreadable"] = err.Error()
		return told
	}
	defer result.Body.Close()
	digest, err := program.Digest(result.Body)
	if err != nil {
		told["unreadable"] = err.Error()
		return told
	}
	digest["mime"] = oss.ToString(result.ContentType)
	told["stored"] = digest
	return told
}

func request(key, bodyType, mode string) *oss.PutObjectRequest {
	callback, variables := settings.Callback(bodyType, mode)
	return &oss.PutObjectRequest{
		Bucket:      oss.Ptr(settings.Bucket),
		Key:         oss.Ptr(key),
		Callback:    oss.Ptr(callback),
		CallbackVar: oss.Ptr(variables),
	}
}

func put(client *oss.Client, key, bodyType, mode string) (program.Report, error) {
	text := request(key, bodyType, mode)
	text.Body = bytes.NewReader(settings.Read("text.txt"))
	result, err := client.PutObject(background, text)
	return putReport(result, err)
}

func putReport(result *oss.PutObjectResult, err error) (program.Report, error) {
	if err != nil {
		return nil, err
	}
	return program.Report{
		"status": result.StatusCode,
		"etag":   oss.ToString(result.ETag),
		"crc64":  oss.ToString(result.HashCRC64),
		"answer": asText(result.CallbackResult),
	}, nil
}

func asText(answer map[string]any) string {
	text, err := json.Marshal(answer)
	program.Must(err)
	return string(text)
}

func multipart(client *oss.Client, key, bodyType, mode string) (program.Report, error) {
	begun, err := client.InitiateMultipartUpload(background, &oss.InitiateMultipartUploadRequest{
		Bucket: oss.Ptr(settings.Bucket), Key: oss.Ptr(key),
	})
	if err != nil {
		return nil, err
	}
	var parts []oss.UploadPart
	content := settings.Read("large.bin")
	for number, start := int32(1), 0; start < len(content); number, start = number+1, start+partSize {
		part, err := client.UploadPart(background, &oss.UploadPartRequest{
			Bucket:     oss.Ptr(settings.Bucket),
			Key:        oss.Ptr(key),
			UploadId:   begun.UploadId,
			PartNumber: number,
			Body:       bytes.NewReader(content[start:min(start+partSize, len(content))]),
		})
		if err != nil {
			return nil, err
		}
		parts = append(parts, oss.UploadPart{PartNumber: number, ETag: part.ETag})
	}
	callback, variables := settings.Callback(bodyType, mode)
	result, err := client.CompleteMultipartUpload(background, &oss.CompleteMultipartUploadRequest{
		Bucket:                  oss.Ptr(settings.Bucket),
		Key:                     oss.Ptr(key),
		UploadId:                begun.UploadId,
		CompleteMultipartUpload: &oss.CompleteMultipartUpload{Parts: parts},
		Callback:                oss.Ptr(callback),
		CallbackVar:             oss.Ptr(variables),
	})
	if err != nil {
		return nil, err
	}
	return program.Report{
		"status": result.StatusCode,
		"etag":   result.Headers.Get("ETag"),
		"crc64":  oss.ToString(result.HashCRC64),
		"answer": asText(result.CallbackResult),
	}, nil
}

// uploader hands on everything but the callback's answer, which this SDK's Uploader drops.
func uploader(key, bodyType, mode string) (program.Report, error) {
	manager := oss.NewUploader(client("", oss.SignatureVersionV4), func(options *oss.UploaderOptions) {
		options.PartSize = partSize
		options.EnableCheckpoint = true
		options.CheckpointDir = settings.Folder
	})
	result, err := manager.UploadFile(background, request(key, bodyType, mode), settings.File("large.bin"))
	if err != nil {
		return nil, err
	}
	return program.Report{"status": result.StatusCode, "crc64": oss.ToString(result.HashCRC64)}, nil
}

// presigned hands URL and headers to a client that knows nothing of OSS. The callback is among the headers.
func presigned(client *oss.Client, key, bodyType, mode string) (program.Report, error) {
	ask := request(key, bodyType, mode)
	ask.ContentType = oss.Ptr("text/plain")
	signed, err := client.Presign(background, ask, oss.PresignExpires(10*time.Minute))
	if err != nil {
		return nil, err
	}
	return program.Send(signed.Method, signed.URL, signed.SignedHeaders, settings.Read("text.txt"))
}

func failures(steps program.Steps) {
	v4 := client("", oss.SignatureVersionV4)
	fail := func(name, extension string, with func(key string) (program.Report, error)) {
		steps.Run("failed "+name, func() (program.Report, error) {
			key := "go-v2/failed-" + name + extension
			report, err := with(key)
			return stored(report, key), err
		})
	}
	for _, mode := range program.Failures {
		fail("put "+mode, ".txt", func(key string) (program.Report, error) {
			return put(v4, key, program.JSON, mode)
		})
	}
	fail("multipart 500", ".bin", func(key string) (program.Report, error) {
		return multipart(v4, key, program.JSON, "500")
	})
	fail("uploader 500", ".bin", func(key string) (program.Report, error) {
		return uploader(key, program.JSON, "500")
	})
	fail("presigned-v4 500", ".txt", func(key string) (program.Report, error) {
		return presigned(v4, key, program.JSON, "500")
	})
	fail("form-post 500", ".txt", func(key string) (program.Report, error) {
		return program.PostForm(settings, key, "text/plain", program.JSON, "500")
	})
	fail("put refused", ".txt", func(key string) (program.Report, error) {
		refused := request(key, program.JSON, "ok")
		refused.Callback = oss.Ptr("this is not Base64")
		result, err := v4.PutObject(background, refused)
		return putReport(result, err)
	})
}

func objects(steps program.Steps) {
	v4 := client("", oss.SignatureVersionV4)
	bucket, key := oss.Ptr(settings.Bucket), oss.Ptr("go-v2/object with headers.txt")
	steps.Run("headers", func() (program.Report, error) {
		_, err := v4.PutObject(background, &oss.PutObjectRequest{
			Bucket:             bucket,
			Key:                key,
			Body:               bytes.NewReader(settings.Read("text.txt")),
			ContentType:        oss.Ptr("text/markdown"),
			CacheControl:       oss.Ptr("no-cache"),
			ContentDisposition: oss.Ptr("attachment"),
			Metadata:           map[string]string{"author": "a writer"},
		})
		if err != nil {
			return nil, err
		}
		head, err := v4.HeadObject(background, &oss.HeadObjectRequest{Bucket: bucket, Key: key})
		if err != nil {
			return nil, err
		}
		return program.Report{
			"mime":                oss.ToString(head.ContentType),
			"cache_control":       oss.ToString(head.CacheControl),
			"content_disposition": oss.ToString(head.ContentDisposition),
			"author":              head.Metadata["author"],
			"size":                head.ContentLength,
		}, nil
	})
	steps.Run("range", func() (program.Report, error) {
		result, err := v4.GetObject(background, &oss.GetObjectRequest{
			Bucket: bucket, Key: key, Range: oss.Ptr("bytes=2-5"), RangeBehavior: oss.Ptr("standard"),
		})
		if err != nil {
			return nil, err
		}
		defer result.Body.Close()
		var text bytes.Buffer
		_, err = text.ReadFrom(result.Body)
		return program.Report{"status": result.StatusCode, "text": text.String()}, err
	})
	steps.Run("unchanged", func() (program.Report, error) {
		head, err := v4.HeadObject(background, &oss.HeadObjectRequest{Bucket: bucket, Key: key})
		if err != nil {
			return nil, err
		}
		_, err = v4.GetObject(background, &oss.GetObjectRequest{Bucket: bucket, Key: key, IfNoneMatch: head.ETag})
		return nil, err
	})
	steps.Run("other version", func() (program.Report, error) {
		_, err := v4.GetObject(background, &oss.GetObjectRequest{Bucket: bucket, Key: key, IfMatch: oss.Ptr(`"0"`)})
		return nil, err
	})
	steps.Run("missing object", func() (program.Report, error) {
		_, err := v4.GetObject(background, &oss.GetObjectRequest{Bucket: bucket, Key: oss.Ptr("go-v2/nothing")})
		return nil, err
	})
	steps.Run("missing bucket", func() (program.Report, error) {
		_, err := v4.GetObject(background, &oss.GetObjectRequest{Bucket: oss.Ptr("no-such-bucket"), Key: key})
		return nil, err
	})
	steps.Run("presigned get", func() (program.Report, error) {
		signed, err := v4.Presign(background, &oss.GetObjectRequest{Bucket: bucket, Key: key})
		if err != nil {
			return nil, err
		}
		return program.Send(http.MethodGet, signed.URL, signed.SignedHeaders, nil)
	})
	steps.Run("aborted upload", func() (program.Report, error) {
		begun, err := v4.InitiateMultipartUpload(background, &oss.InitiateMultipartUploadRequest{Bucket: bucket, Key: key})
		if err != nil {
			return nil, err
		}
		_, err = v4.UploadPart(background, &oss.UploadPartRequest{
			Bucket: bucket, Key: key, UploadId: begun.UploadId, PartNumber: 1, Body: bytes.NewReader([]byte("part")),
		})
		if err != nil {
			return nil, err
		}
		list := &oss.ListPartsRequest{Bucket: bucket, Key: key, UploadId: begun.UploadId}
		listed, err := v4.ListParts(background, list)
		if err != nil {
			return nil, err
		}
		report := program.Report{"parts": len(listed.Parts)}
		_, err = v4.AbortMultipartUpload(background, &oss.AbortMultipartUploadRequest{
			Bucket: bucket, Key: key, UploadId: begun.UploadId,
		})
		if err != nil {
			return report, err
		}
		_, err = v4.ListParts(background, list)
		return report, err
	})
}

func listings(steps program.Steps) {
	v4 := client("", oss.SignatureVersionV4)
	bucket := oss.Ptr(settings.Bucket)
	steps.Run("listing", func() (program.Report, error) {
		for _, key := range program.Listed {
			_, err := v4.PutObject(background, &oss.PutObjectRequest{
				Bucket: bucket, Key: oss.Ptr(key), Body: bytes.NewReader([]byte(key)),
			})
			if err != nil {
				return nil, err
			}
		}
		keys, prefixes, pages := []string{}, []string{}, 0
		paginator := v4.NewListObjectsPaginator(&oss.ListObjectsRequest{
			Bucket: bucket, Prefix: oss.Ptr("list/"), Delimiter: oss.Ptr("/"), MaxKeys: 2,
		})
		for ; paginator.HasNext(); pages++ {
			page, err := paginator.NextPage(background)
			if err != nil {
				return nil, err
			}
			for _, object := range page.Contents {
				keys = append(keys, oss.ToString(object.Key))
			}
			for _, prefix := range page.CommonPrefixes {
				prefixes = append(prefixes, oss.ToString(prefix.Prefix))
			}
		}
		return program.Report{"keys": keys, "prefixes": prefixes, "pages": pages}, nil
	})
	steps.Run("listing v2", func() (program.Report, error) {
		keys, sizes, pages := []string{}, []int64{}, 0
		paginator := v4.NewListObjectsV2Paginator(&oss.ListObjectsV2Request{
			Bucket: bucket, Prefix: oss.Ptr("list/"), StartAfter: oss.Ptr("list/a/1"), MaxKeys: 2,
		})
		for ; paginator.HasNext(); pages++ {
			page, err := paginator.NextPage(background)
			if err != nil {
				return nil, err
			}
			for _, object := range page.Contents {
				keys, sizes = append(keys, oss.ToString(object.Key)), append(sizes, object.Size)
			}
		}
		return program.Report{"keys": keys, "sizes": sizes, "pages": pages}, nil
	})
	steps.Run("deleting", func() (program.Report, error) {
		key := program.Listed[0]
		before, err := v4.IsObjectExist(background, settings.Bucket, key)
		if err != nil {
			return nil, err
		}
		_, err = v4.DeleteObject(background, &oss.DeleteObjectRequest{Bucket: bucket, Key: oss.Ptr(key)})
		if err != nil {
			return nil, err
		}
		after, err := v4.IsObjectExist(background, settings.Bucket, key)
		return program.Report{"before": before, "after": after}, err
	})
	steps.Run("batch deleting", func() (program.Report, error) {
		var objects []oss.DeleteObject
		for _, key := range program.Listed[1:] {
			objects = append(objects, oss.DeleteObject{Key: oss.Ptr(key)})
		}
		result, err := v4.DeleteMultipleObjects(background, &oss.DeleteMultipleObjectsRequest{
			Bucket: bucket, Objects: objects, EncodingType: oss.Ptr("url"),
		})
		if err != nil {
			return nil, err
		}
		deleted := []string{}
		for _, object := range result.DeletedObjects {
			deleted = append(deleted, oss.ToString(object.Key))
		}
		left, err := v4.IsObjectExist(background, settings.Bucket, program.Listed[1])
		return program.Report{"deleted": deleted, "left": left}, err
	})
}

func buckets(steps program.Steps) {
	v4 := client("", oss.SignatureVersionV4)
	name := "made-by-go-v2"
	steps.Run("buckets", func() (program.Report, error) {
		_, err := v4.PutBucket(background, &oss.PutBucketRequest{Bucket: oss.Ptr(name)})
		if err != nil {
			return nil, err
		}
		names := []string{}
		paginator := v4.NewListBucketsPaginator(&oss.ListBucketsRequest{MaxKeys: 1})
		for paginator.HasNext() {
			page, err := paginator.NextPage(background)
			if err != nil {
				return nil, err
			}
			for _, bucket := range page.Buckets {
				names = append(names, oss.ToString(bucket.Name))
			}
		}
		info, err := v4.GetBucketInfo(background, &oss.GetBucketInfoRequest{Bucket: oss.Ptr(name)})
		if err != nil {
			return nil, err
		}
		location, err := v4.GetBucketLocation(background, &oss.GetBucketLocationRequest{Bucket: oss.Ptr(name)})
		if err != nil {
			return nil, err
		}
		_, err = v4.DeleteBucket(background, &oss.DeleteBucketRequest{Bucket: oss.Ptr(name)})
		if err != nil {
			return nil, err
		}
		left, err := v4.IsBucketExist(background, name)
		return program.Report{
			"made":     name,
			"names":    names,
			"info":     oss.ToString(info.BucketInfo.Name),
			"location": oss.ToString(location.LocationConstraint),
			"left":     left,
		}, err
	})
}
