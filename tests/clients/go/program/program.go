// Package program is what the clients of both SDKs share: what they are told, and how they report.
package program

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// The two media types of a callback's body.
const (
	Form = "application/x-www-form-urlencoded"
	JSON = "application/json"
)

// Settings is the file that the program's argument names.
type Settings struct {
	Endpoint        string            `json:"endpoint"`
	Region          string            `json:"region"`
	Bucket          string            `json:"bucket"`
	AccessKeyID     string            `json:"access_key_id"`
	AccessKeySecret string            `json:"access_key_secret"`
	CallbackURLs    map[string]string `json:"callback_urls"` // by how the server there answers
	Templates       map[string]string `json:"templates"`     // bodies of callbacks by their media type
	Variables       map[string]string `json:"variables"`     // custom variables, `x:` included
	Folder          string            `json:"folder"`        // with text.txt, picture.png and large.bin in it
}

// Load reads the settings.
func Load() Settings {
	text, err := os.ReadFile(os.Args[1])
	Must(err)
	var settings Settings
	Must(json.Unmarshal(text, &settings))
	return settings
}

// File is the path of a file of the folder.
func (settings Settings) File(name string) string {
	return filepath.Join(settings.Folder, name)
}

// Read is the content of a file of the folder.
func (settings Settings) Read(name string) []byte {
	data, err := os.ReadFile(settings.File(name))
	Must(err)
	return data
}

// Callback is the parameters of a callback to the server that answers in this mode, as OSS wants them: JSON in Base64.
func (settings Settings) Callback(bodyType, mode string) (callback, variables string) {
	return encode(map[string]string{
		"callbackUrl":      settings.CallbackURLs[mode],
		"callbackBody":     settings.Templates[bodyType],
		"callbackBodyType": bodyType,
	}), encode(settings.Variables)
}

func encode(value map[string]string) string {
	text, err := json.Marshal(value)
	Must(err)
	return base64.StdEncoding.EncodeToString(text)
}

// Report is what is told about one step.
type Report map[string]any

// Steps runs steps one by one and prints a line of JSON about each.
type Steps struct {
	// Describe tells an SDK's error in its own terms: type, status, code, message, ec; nil if it is not one of its own.
	Describe func(error) Report
}

// Run reports what `step` tells; an error is told beside it under `error`, whatever it is.
func (steps Steps) Run(name string, step func() (Report, error)) {
	told := Report{}
	report, err := step()
	for field, value := range report {
		told[field] = value
	}
	if err != nil {
		told["error"] = steps.error(err)
	}
	told["step"] = name
	line, err := json.Marshal(told)
	Must(err)
	fmt.Println(string(line))
}

func (steps Steps) error(err error) Report {
	if described := steps.Describe(err); described != nil {
		return described
	}
	return Report{"type": fmt.Sprintf("%T", err), "message": err.Error()}
}

// Digest tells size and SHA-256 of a content, as each object is told that was read back.
func Digest(content io.Reader) (Report, error) {
	hash := sha256.New()
	size, err := io.Copy(hash, content)
	return Report{"size": size, "sha256": hex.EncodeToString(hash.Sum(nil))}, err
}

// OneWay hides that a content could be read again or measured.
func OneWay(content []byte) io.Reader {
	return io.MultiReader(bytes.NewReader(content))
}

// Must ends the program on a fault that is none of the SDK's.
func Must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Kinds names the two media types as steps do.
var Kinds = []struct{ Name, BodyType string }{{"form", Form}, {"json", JSON}}

// Failures are the ways in which a callback server can fail that every client is shown.
var Failures = []string{"500", "not-json", "no-length", "hang"}

// Listed are the objects that are put and listed; the last one shows how keys are encoded.
var Listed = []string{"list/a/1", "list/a/2", "list/b/1", "list/c", "list/d ü+&<.txt"}
