// Command sdkv1 uploads, reads, lists and deletes with aliyun-oss-go-sdk, and reports what the SDK tells it.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/aliyun/aliyun-oss-go-sdk/oss"

	"oss-standin-clients/program"
)

const (
	partSize         = 300 * 1024
	presignedSeconds = 600
)

var settings = program.Load()

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
func client(version oss.AuthVersionType, options ...oss.ClientOption) *oss.Client {
	options = append(options, oss.AuthVersion(version), oss.Region(settings.Region))
	client, err := oss.New(settings.Endpoint, settings.AccessKeyID, settings.AccessKeySecret, options...)
	program.Must(err)
	return client
}

func bucket(version oss.AuthVersionType, options ...oss.ClientOption) *oss.Bucket {
	bucket, err := client(version, options...).Bucket(settings.Bucket)
	program.Must(err)
	return bucket
}

func describe(err error) program.Report {
	switch fault := err.(type) {
	case oss.ServiceError:
		return program.Report{
			"type":       fmt.Sprintf("%T", fault),
			"status":     fault.StatusCode,
			"code":       fault.Code,
			"message":    fault.Message,
			"ec":         fault.Ec,
			"request_id": fault.RequestID,
		}
	case oss.UnexpectedStatusCodeError:
		return program.Report{"type": fmt.Sprintf("%T", fault), "status": fault.Got(), "message": fault.Error()}
	default:
		return nil
	}
}

func uploads(steps program.Steps, kind, bodyType string) {
	v4, v1 := bucket(oss.AuthV4), bucket(oss.AuthV1)
	upload := func(name, extension string, with func(key string) (program.Report, error)) {
		steps.Run(name+" "+kind, func() (program.Report, error) {
			key := "go-v1/" + name + " ü+&" + kind + extension
			report, err := with(key)
			return stored(report, key), err
		})
	}
	upload("put-bytes", ".txt", func(key string) (program.Report, error) {
		return put(v4, key, bodyType, "ok")
	})
	upload("put-file", ".png", func(key string) (program.Report, error) {
		return reporting(bodyType, "ok", func(options ...oss.Option) error {
			return v4.PutObjectFromFile(key, settings.File("picture.png"), options...)
		})
	})
	upload("put-stream", ".bin", func(key string) (program.Report, error) {
		return reporting(bodyType, "ok", func(options ...oss.Option) error {
			return v4.PutObject(key, program.OneWay(settings.Read("large.bin")), options...)
		})
	})
	upload("put-v1", ".txt", func(key string) (program.Report, error) {
		return put(v1, key, bodyType, "ok")
	})
	upload("put-token", ".txt", func(key string) (program.Report, error) {
		return put(bucket(oss.AuthV4, oss.SecurityToken("any-token")), key, bodyType, "ok")
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
		return presigned(bucket(oss.AuthV1, oss.SecurityToken("any-token")), key, bodyType, "ok")
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
	var headers http.Header
	content, err := bucket(oss.AuthV4).GetObject(key, oss.GetResponseHeader(&headers))
	if err != nil {
		told["unreadable"] = err.Error()
		return told
	}
	defer content.Close()
	digest, err := program.Digest(content)
	if err != nil {
		told["unreadable"] = err.Error()
		return told
	}
	digest["mime"] = headers.Get("Content-Type")
	told["stored"] = digest
	return told
}

// callback is the options of an upload with a callback.
func callback(bodyType, mode string) []oss.Option {
	callback, variables := settings.Callback(bodyType, mode)
	return []oss.Option{oss.Callback(callback), oss.CallbackVar(variables)}
}

// reporting uploads with a callback and reports what this SDK can be made to hand out.
func reporting(bodyType, mode string, upload func(...oss.Option) error) (program.Report, error) {
	var answer []byte
	var headers http.Header
	err := upload(append(callback(bodyType, mode), oss.CallbackResult(&answer), oss.GetResponseHeader(&headers))...)
	if err != nil {
		return nil, err
	}
	return program.Report{
		"status": http.StatusOK, // anything else is an error of this SDK
		"etag":   headers.Get("ETag"),
		"crc64":  headers.Get("x-oss-hash-crc64ecma"),
		"answer": string(answer),
	}, nil
}

func put(bucket *oss.Bucket, key, bodyType, mode string) (program.Report, error) {
	return reporting(bodyType, mode, func(options ...oss.Option) error {
		return bucket.PutObject(key, bytes.NewReader(settings.Read("text.txt")), options...)
	})
}

func multipart(bucket *oss.Bucket, key, bodyType, mode string) (program.Report, error) {
	chunks, err := oss.SplitFileByPartSize(settings.File("large.bin"), partSize)
	if err != nil {
		return nil, err
	}
	begun, err := bucket.InitiateMultipartUpload(key)
	if err != nil {
		return nil, err
	}
	file, err := os.Open(settings.File("large.bin"))
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var parts []oss.UploadPart
	for _, chunk := range chunks {
		part, err := bucket.UploadPart(begun, io.NewSectionReader(file, chunk.Offset, chunk.Size), chunk.Size, chunk.Number)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	return reporting(bodyType, mode, func(options ...oss.Option) error {
		_, err := bucket.CompleteMultipartUpload(begun, parts, options...)
		return err
	})
}

func uploader(key, bodyType, mode string) (program.Report, error) {
	return reporting(bodyType, mode, func(options ...oss.Option) error {
		options = append(options, oss.Routines(3), oss.CheckpointDir(true, settings.Folder))
		return bucket(oss.AuthV4).UploadFile(key, settings.File("large.bin"), partSize, options...)
	})
}

// presigned hands a URL to a client that knows nothing of OSS. The callback is in the URL's query.
func presigned(bucket *oss.Bucket, key, bodyType, mode string) (program.Report, error) {
	callback, variables := settings.Callback(bodyType, mode)
	url, err := bucket.SignURL(key, oss.HTTPPut, presignedSeconds,
		oss.ContentType("text/plain"), oss.AddParam("callback", callback), oss.AddParam("callback-var", variables))
	if err != nil {
		return nil, err
	}
	return program.Send(http.MethodPut, url, map[string]string{"Content-Type": "text/plain"}, settings.Read("text.txt"))
}

func failures(steps program.Steps) {
	v4 := bucket(oss.AuthV4)
	fail := func(name, extension string, with func(key string) (program.Report, error)) {
		steps.Run("failed "+name, func() (program.Report, error) {
			key := "go-v1/failed-" + name + extension
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
		return nil, v4.PutObject(key, strings.NewReader("text"), oss.Callback("this is not Base64"))
	})
}

func objects(steps program.Steps) {
	v4 := bucket(oss.AuthV4)
	key := "go-v1/object with headers.txt"
	steps.Run("headers", func() (program.Report, error) {
		err := v4.PutObject(key, bytes.NewReader(settings.Read("text.txt")),
			oss.ContentType("text/markdown"),
			oss.CacheControl("no-cache"),
			oss.ContentDisposition("attachment"),
			oss.Meta("author", "a writer"))
		if err != nil {
			return nil, err
		}
		head, err := v4.GetObjectDetailedMeta(key)
		if err != nil {
			return nil, err
		}
		return program.Report{
			"mime":                head.Get("Content-Type"),
			"cache_control":       head.Get("Cache-Control"),
			"content_disposition": head.Get("Content-Disposition"),
			"author":              head.Get("X-Oss-Meta-Author"),
			"size":                head.Get("Content-Length"),
		}, nil
	})
	steps.Run("range", func() (program.Report, error) {
		content, err := v4.GetObject(key, oss.Range(2, 5), oss.RangeBehavior("standard"))
		if err != nil {
			return nil, err
		}
		defer content.Close()
		text, err := io.ReadAll(content)
		return program.Report{"text": string(text)}, err
	})
	steps.Run("unchanged", func() (program.Report, error) {
		head, err := v4.GetObjectDetailedMeta(key)
		if err != nil {
			return nil, err
		}
		_, err = v4.GetObject(key, oss.IfNoneMatch(head.Get("ETag")))
		return nil, err
	})
	steps.Run("other version", func() (program.Report, error) {
		_, err := v4.GetObject(key, oss.IfMatch(`"0"`))
		return nil, err
	})
	steps.Run("missing object", func() (program.Report, error) {
		_, err := v4.GetObject("go-v1/nothing")
		return nil, err
	})
	steps.Run("missing bucket", func() (program.Report, error) {
		bucket, err := client(oss.AuthV4).Bucket("no-such-bucket")
		if err != nil {
			return nil, err
		}
		_, err = bucket.GetObject(key)
		return nil, err
	})
	steps.Run("presigned get", func() (program.Report, error) {
		url, err := v4.SignURL(key, oss.HTTPGet, presignedSeconds)
		if err != nil {
			return nil, err
		}
		return program.Send(http.MethodGet, url, nil, nil)
	})
	steps.Run("aborted upload", func() (program.Report, error) {
		begun, err := v4.InitiateMultipartUpload(key)
		if err != nil {
			return nil, err
		}
		if _, err = v4.UploadPart(begun, strings.NewReader("part"), int64(len("part")), 1); err != nil {
			return nil, err
		}
		listed, err := v4.ListUploadedParts(begun)
		if err != nil {
			return nil, err
		}
		report := program.Report{"parts": len(listed.UploadedParts)}
		if err = v4.AbortMultipartUpload(begun); err != nil {
			return report, err
		}
		_, err = v4.ListUploadedParts(begun)
		return report, err
	})
}

func listings(steps program.Steps) {
	v4 := bucket(oss.AuthV4)
	steps.Run("listing", func() (program.Report, error) {
		for _, key := range program.Listed {
			if err := v4.PutObject(key, strings.NewReader(key)); err != nil {
				return nil, err
			}
		}
		keys, prefixes, pages := []string{}, []string{}, 0
		marker, truncated := "", true
		for ; truncated; pages++ {
			page, err := v4.ListObjects(oss.Prefix("list/"), oss.Delimiter("/"), oss.MaxKeys(2), oss.Marker(marker))
			if err != nil {
				return nil, err
			}
			for _, object := range page.Objects {
				keys = append(keys, object.Key)
			}
			prefixes = append(prefixes, page.CommonPrefixes...)
			marker, truncated = page.NextMarker, page.IsTruncated
		}
		return program.Report{"keys": keys, "prefixes": prefixes, "pages": pages}, nil
	})
	steps.Run("listing v2", func() (program.Report, error) {
		keys, sizes, pages := []string{}, []int64{}, 0
		position, truncated := oss.StartAfter("list/a/1"), true
		for ; truncated; pages++ {
			page, err := v4.ListObjectsV2(oss.Prefix("list/"), oss.MaxKeys(2), position)
			if err != nil {
				return nil, err
			}
			for _, object := range page.Objects {
				keys, sizes = append(keys, object.Key), append(sizes, object.Size)
			}
			position, truncated = oss.ContinuationToken(page.NextContinuationToken), page.IsTruncated
		}
		return program.Report{"keys": keys, "sizes": sizes, "pages": pages}, nil
	})
	steps.Run("deleting", func() (program.Report, error) {
		key := program.Listed[0]
		before, err := v4.IsObjectExist(key)
		if err != nil {
			return nil, err
		}
		if err = v4.DeleteObject(key); err != nil {
			return nil, err
		}
		after, err := v4.IsObjectExist(key)
		return program.Report{"before": before, "after": after}, err
	})
	steps.Run("batch deleting", func() (program.Report, error) {
		result, err := v4.DeleteObjects(program.Listed[1:])
		if err != nil {
			return nil, err
		}
		left, err := v4.IsObjectExist(program.Listed[1])
		return program.Report{"deleted": result.DeletedObjects, "left": left}, err
	})
}

func buckets(steps program.Steps) {
	v4 := client(oss.AuthV4)
	name := "made-by-go-v1"
	steps.Run("buckets", func() (program.Report, error) {
		if err := v4.CreateBucket(name); err != nil {
			return nil, err
		}
		names := []string{}
		marker, truncated := "", true
		for truncated {
			page, err := v4.ListBuckets(oss.MaxKeys(1), oss.Marker(marker))
			if err != nil {
				return nil, err
			}
			for _, bucket := range page.Buckets {
				names = append(names, bucket.Name)
			}
			marker, truncated = page.NextMarker, page.IsTruncated
		}
		info, err := v4.GetBucketInfo(name)
		if err != nil {
			return nil, err
		}
		location, err := v4.GetBucketLocation(name)
		if err != nil {
			return nil, err
		}
		if err = v4.DeleteBucket(name); err != nil {
			return nil, err
		}
		left, err := v4.IsBucketExist(name)
		return program.Report{
			"made":     name,
			"names":    names,
			"info":     info.BucketInfo.Name,
			"location": location,
			"left":     left,
		}, err
	})
}
