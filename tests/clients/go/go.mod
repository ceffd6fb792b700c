module oss-standin-clients

go 1.21

require github.com/aliyun/alibabacloud-oss-go-sdk-v2 v1.6.1

require gopkg.in/check.v1 v1.0.0-20201130134442-10cb98267c6c // indirect

require (
	github.com/aliyun/aliyun-oss-go-sdk v3.0.2+incompatible
	golang.org/x/time v0.4.0 // indirect
)
