//! What a caller reads when the transport itself refuses a call.

use std::time::Duration;

use http::Response;
use tonic::body::Body;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// The `ErrorInfo.domain` of every error.
const DOMAIN: &str = "fieldseal.dev";
/// When to try again after load was shed.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Refusals made before a handler runs, or instead of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallRefusal {
    /// As many calls as the process takes are running.
    TooManyCalls,
    /// Requests hold as many bytes as the process gives them.
    RequestMemoryFull,
    /// The call was not over at its deadline.
    DeadlineExceeded,
    /// `grpc-timeout` is not what the gRPC specification says.
    DeadlineMalformed,
    /// There is no such service or method.
    MethodUnknown,
    /// The request is compressed.
    CompressionUnsupported,
    /// The request message is larger than the limit.
    MessageTooLarge,
    /// The request is not one message of the method's type.
    MessageMalformed,
}

impl CallRefusal {
    /// Every one.
    pub const ALL: &'static [Self] = &[
        Self::TooManyCalls,
        Self::RequestMemoryFull,
        Self::DeadlineExceeded,
        Self::DeadlineMalformed,
        Self::MethodUnknown,
        Self::CompressionUnsupported,
        Self::MessageTooLarge,
        Self::MessageMalformed,
    ];

    /// `ErrorInfo.reason`: stable.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TooManyCalls => "TOO_MANY_CALLS",
            Self::RequestMemoryFull => "REQUEST_MEMORY_FULL",
            Self::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Self::DeadlineMalformed => "DEADLINE_MALFORMED",
            Self::MethodUnknown => "METHOD_UNKNOWN",
            Self::CompressionUnsupported => "COMPRESSION_UNSUPPORTED",
            Self::MessageTooLarge => "MESSAGE_TOO_LARGE",
            Self::MessageMalformed => "MESSAGE_MALFORMED",
        }
    }

    const fn code(self) -> Code {
        match self {
            Self::TooManyCalls | Self::RequestMemoryFull | Self::MessageTooLarge => {
                Code::ResourceExhausted
            }
            Self::DeadlineExceeded => Code::DeadlineExceeded,
            Self::DeadlineMalformed | Self::MessageMalformed => Code::InvalidArgument,
            Self::MethodUnknown | Self::CompressionUnsupported => Code::Unimplemented,
        }
    }

    const fn message(self) -> &'static str {
        match self {
            Self::TooManyCalls => "too many calls are running; try again shortly",
            Self::RequestMemoryFull => {
                "requests hold as much memory as they may; try again shortly, with fewer at a time"
            }
            Self::DeadlineExceeded => "the call was not over at its deadline",
            Self::DeadlineMalformed => {
                "grpc-timeout must be at most 8 digits and one of H, M, S, m, u, n"
            }
            Self::MethodUnknown => "there is no such method; see the services in fieldseal.v1",
            Self::CompressionUnsupported => "send messages without compression",
            Self::MessageTooLarge => "the message is larger than the limit; send smaller batches",
            Self::MessageMalformed => "the request is not a message of this method's type",
        }
    }

    /// The status with its `ErrorInfo`, and `RetryInfo` where waiting helps.
    #[must_use]
    pub fn status(self) -> Status {
        let mut details = ErrorDetails::with_error_info(self.reason(), DOMAIN, []);
        if matches!(self, Self::TooManyCalls | Self::RequestMemoryFull) {
            details.set_retry_info(Some(RETRY_AFTER));
        }
        Status::with_error_details(self.code(), self.message(), details)
    }

    pub(crate) fn response(self) -> Response<Body> {
        self.status().into_http()
    }
}

/// Gives a refusal of the gRPC library, recognised by its missing details, its typed reason. Our
/// handlers' refusals all have one; answers of handlers do not stand in the response's head.
pub(crate) fn completed(response: Response<Body>) -> Response<Body> {
    let headers = response.headers();
    let Some(code) = headers.get(Status::GRPC_STATUS) else { return response };
    if headers.contains_key(Status::GRPC_STATUS_DETAILS) {
        return response;
    }
    match Code::from_bytes(code.as_bytes()) {
        // Generated code says nothing else about a method that it does not know.
        Code::Unimplemented if headers.contains_key(Status::GRPC_MESSAGE) => {
            CallRefusal::CompressionUnsupported.response()
        }
        Code::Unimplemented => CallRefusal::MethodUnknown.response(),
        Code::OutOfRange => CallRefusal::MessageTooLarge.response(),
        Code::Internal => CallRefusal::MessageMalformed.response(),
        _ => response,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_the_library_gets_a_reason_and_ours_stays() {
        let reason = |response: &Response<Body>| {
            let status = Status::from_header_map(response.headers()).unwrap();
            (status.code(), status.get_details_error_info().map(|info| info.reason))
        };
        let bare = |code| Status::new(code, "bare").into_http::<Body>();
        let cases = [
            (Code::Unimplemented, Code::Unimplemented, Some("COMPRESSION_UNSUPPORTED")),
            (Code::OutOfRange, Code::ResourceExhausted, Some("MESSAGE_TOO_LARGE")),
            (Code::Internal, Code::InvalidArgument, Some("MESSAGE_MALFORMED")),
            (Code::NotFound, Code::NotFound, None),
        ];
        for (code, expected, expected_reason) in cases {
            let (code, reason) = reason(&completed(bare(code)));
            assert_eq!((code, reason.as_deref()), (expected, expected_reason));
        }
        let details = ErrorDetails::with_error_info("SOME_REASON", DOMAIN, []);
        let ours = Status::with_error_details(Code::Internal, "ours", details).into_http();
        assert_eq!(reason(&completed(ours)).1.as_deref(), Some("SOME_REASON"));
        assert!(!completed(Response::new(Body::empty())).headers().contains_key("grpc-status"));
    }

    #[test]
    fn only_shed_load_is_worth_a_retry() {
        let shed = CallRefusal::TooManyCalls.status();
        assert_eq!(shed.code(), Code::ResourceExhausted);
        assert!(shed.get_details_retry_info().is_some());
        assert!(CallRefusal::DeadlineExceeded.status().get_details_retry_info().is_none());
    }
}
