//! The messages of OTLP that are sent: opentelemetry-proto 1, `collector/logs/v1/logs_service.proto` and
//! what it needs of `logs`, `common` and `resource`. A reader passes over what it does not know, and what
//! is left out here has its default.

use fieldseal_audit::Event;
use fieldseal_audit::Outcome;
use fieldseal_model::hex;
use fieldseal_service::ocsf;
use prost::Message;

/// The method.
pub(super) const EXPORT: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
/// `SeverityNumber` of what went well, and of what was refused or failed.
const INFO: i32 = 9;
const WARN: i32 = 13;

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportLogsServiceRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) resource_logs: Vec<ResourceLogs>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportLogsServiceResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) partial_success: Option<ExportLogsPartialSuccess>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ExportLogsPartialSuccess {
    #[prost(int64, tag = "1")]
    pub(super) rejected_log_records: i64,
    #[prost(string, tag = "2")]
    pub(super) error_message: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResourceLogs {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_logs: Vec<ScopeLogs>,
}

#[derive(Clone, PartialEq, Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeLogs {
    #[prost(message, optional, tag = "1")]
    scope: Option<InstrumentationScope>,
    #[prost(message, repeated, tag = "2")]
    log_records: Vec<LogRecord>,
}

#[derive(Clone, PartialEq, Message)]
struct InstrumentationScope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, Message)]
struct LogRecord {
    #[prost(fixed64, tag = "1")]
    time_unix_nano: u64,
    #[prost(fixed64, tag = "11")]
    observed_time_unix_nano: u64,
    #[prost(int32, tag = "2")]
    severity_number: i32,
    #[prost(string, tag = "3")]
    severity_text: String,
    #[prost(message, optional, tag = "5")]
    body: Option<AnyValue>,
    #[prost(message, repeated, tag = "6")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

/// Of its kinds only text.
#[derive(Clone, PartialEq, Message)]
struct AnyValue {
    #[prost(string, optional, tag = "1")]
    string_value: Option<String>,
}

fn text(text: String) -> Option<AnyValue> {
    Some(AnyValue { string_value: Some(text) })
}

fn attribute(key: &str, value: String) -> KeyValue {
    KeyValue { key: key.to_owned(), value: text(value) }
}

/// Records of the log of this name and origin. The body of each is its OCSF line. The origin is the resource's
/// `service.instance.id`, which OpenTelemetry's conventions want to be nobody else's.
pub(super) fn request(log: &str, origin: &str, events: Vec<Event>) -> ExportLogsServiceRequest {
    let log_records = events.into_iter().map(|event| record(log, event)).collect();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let scope = InstrumentationScope { name: "fieldseal.audit".to_owned(), version };
    let resource = Resource {
        attributes: vec![
            attribute("service.name", "fieldseal".to_owned()),
            attribute("service.instance.id", origin.to_owned()),
        ],
    };
    let scope_logs = vec![ScopeLogs { scope: Some(scope), log_records }];
    let resource_logs = vec![ResourceLogs { resource: Some(resource), scope_logs }];
    ExportLogsServiceRequest { resource_logs }
}

fn record(log: &str, event: Event) -> LogRecord {
    let at = u64::try_from(event.time.unix_nanos()).unwrap_or_default();
    let (severity_number, severity_text) = match event.outcome {
        Some(Outcome::Denied | Outcome::Failed | Outcome::Partial) => (WARN, "WARN"),
        _ => (INFO, "INFO"),
    };
    let uid = attribute("log.record.uid", hex::encode(&event.leaf_hash));
    LogRecord {
        time_unix_nano: at,
        observed_time_unix_nano: at,
        severity_number,
        severity_text: severity_text.to_owned(),
        body: text(ocsf::event_line(log, event)),
        attributes: vec![uid],
    }
}
