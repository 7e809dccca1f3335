package evidence

import (
	"errors"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go/middleware"
)

// RequestID is the id under which CloudTrail has a call that succeeded; "" when AWS gave none.
func RequestID(call middleware.Metadata) string {
	id, _ := awsmiddleware.GetRequestIDMetadata(call)
	return id
}

// FailedRequestID is the id of a call that AWS refused.
func FailedRequestID(err error) string {
	var answer *awshttp.ResponseError
	if errors.As(err, &answer) {
		return answer.ServiceRequestID()
	}
	return ""
}
