package program

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"strings"
	"time"
)

// Send makes a request without any SDK, as whoever was handed a URL or a form does, and reports the answer.
func Send(method, url string, headers map[string]string, content []byte) (Report, error) {
	request, err := http.NewRequest(method, url, bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	for name, value := range headers {
		request.Header.Set(name, value)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return Report{
		"status": answer.StatusCode,
		"answer": string(body),
		"etag":   answer.Header.Get("ETag"),
		"crc64":  answer.Header.Get("x-oss-hash-crc64ecma"),
	}, err
}

// PostForm uploads text.txt by a form under a policy of version 4, which pins the callback and its variables. As in the
// SDK's samples the part of the file has neither a name of a file nor a media type.
func PostForm(settings Settings, key, mime, bodyType, mode string) (Report, error) {
	now := time.Now().UTC()
	day := now.Format("20060102")
	scope := []string{day, settings.Region, "oss", "aliyun_v4_request"}
	credential := settings.AccessKeyID + "/" + strings.Join(scope, "/")
	callback, _ := settings.Callback(bodyType, mode)
	pinned := map[string]string{
		"x-oss-signature-version": "OSS4-HMAC-SHA256",
		"x-oss-credential":        credential,
		"x-oss-date":              now.Format("20060102T150405Z"),
		"key":                     key,
		"content-type":            mime,
		"callback":                callback,
	}
	for name, value := range settings.Variables {
		pinned[name] = value
	}
	conditions := []any{map[string]string{"bucket": settings.Bucket}, []any{"content-length-range", 1, 1 << 20}}
	for name, value := range pinned {
		conditions = append(conditions, []string{"eq", "$" + name, value})
	}
	text, err := json.Marshal(map[string]any{
		"expiration": now.Add(time.Hour).Format("2006-01-02T15:04:05.000Z"),
		"conditions": conditions,
	})
	if err != nil {
		return nil, err
	}
	policy := base64.StdEncoding.EncodeToString(text)
	signing := []byte("aliyun_v4" + settings.AccessKeySecret)
	for _, part := range append(scope, policy) {
		signing = sign(signing, part)
	}

	var form bytes.Buffer
	writer := multipart.NewWriter(&form)
	for name, value := range pinned {
		Must(writer.WriteField(name, value))
	}
	Must(writer.WriteField("policy", policy))
	Must(writer.WriteField("x-oss-signature", hex.EncodeToString(signing)))
	file, err := writer.CreateFormField("file")
	Must(err)
	_, err = file.Write(settings.Read("text.txt"))
	Must(err)
	Must(writer.Close())
	address := fmt.Sprintf("%s/%s", settings.Endpoint, settings.Bucket)
	return Send(http.MethodPost, address, map[string]string{"Content-Type": writer.FormDataContentType()}, form.Bytes())
}

func sign(key []byte, text string) []byte {
	hash := hmac.New(sha256.New, key)
	hash.Write([]byte(text))
	return hash.Sum(nil)
}
