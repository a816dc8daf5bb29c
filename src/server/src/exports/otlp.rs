//! A collector of OpenTelemetry, over gRPC (OTLP 1). The cursor moves when it has answered: what it took
//! before an answer was lost comes twice, with the same `log.record.uid`.

use std::error::Error;
use std::time::Duration;

use fieldseal_engine::ExportFeed;
use http::Uri;
use http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;

use super::connector::Connector;
use super::messages::{self, EXPORT, ExportLogsPartialSuccess, ExportLogsServiceRequest};
use super::{LONGEST_PAUSE, Trouble, beside};

type Codec = ProstCodec<ExportLogsServiceRequest, messages::ExportLogsServiceResponse>;

/// How long connecting, and how long an answer may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// Most characters of what a collector says.
const MOST: usize = 300;

/// The collector.
pub(super) struct Collector {
    channel: Channel,
    /// After a failure nobody knows how far it came: the cursor on disk does.
    is_unsure: bool,
}

impl Collector {
    /// It connects when it is needed.
    pub(super) fn new(uri: Uri, connector: Connector) -> Self {
        let endpoint = Endpoint::from(uri).connect_timeout(DEADLINE).timeout(DEADLINE);
        Self { channel: endpoint.connect_with_connector_lazy(connector), is_unsure: false }
    }

    /// Sends the next records; whether there may be more. `None` if the runtime ends.
    pub(super) async fn step(
        &mut self,
        feed: ExportFeed,
    ) -> Option<(ExportFeed, Result<bool, Trouble>)> {
        let is_unsure = self.is_unsure;
        let (mut feed, read) = beside(feed, move |feed| {
            if is_unsure {
                feed.resume().map_err(|error| error.to_string())?;
            }
            let events = feed.read().map_err(|error| error.to_string())?;
            let request =
                (!events.is_empty()).then(|| messages::request(feed.log(), feed.origin(), events));
            Ok::<_, String>(request)
        })
        .await?;
        let sent = match read {
            Ok(None) => Ok(None),
            Ok(Some(request)) => self.send(request).await.map(Some),
            Err(why) => Err(Trouble::from(why)),
        };
        let done = match sent {
            Ok(None) => Ok(false),
            Ok(Some(said)) => {
                tell(&mut feed, &said);
                let (same, delivered) = beside(feed, |feed| feed.delivered(None)).await?;
                feed = same;
                delivered.map(|()| true).map_err(|error| Trouble::from(error.to_string()))
            }
            Err(trouble) => Err(trouble),
        };
        self.is_unsure = done.is_err();
        Some((feed, done))
    }

    async fn send(
        &self,
        request: ExportLogsServiceRequest,
    ) -> Result<ExportLogsPartialSuccess, Trouble> {
        let mut client = tonic::client::Grpc::new(self.channel.clone());
        client.ready().await.map_err(|error| Trouble::from(told(&error)))?;
        let path = PathAndQuery::from_static(EXPORT);
        let answer = client.unary(Request::new(request), path, Codec::default()).await;
        match answer {
            Ok(answer) => Ok(answer.into_inner().partial_success.unwrap_or_default()),
            Err(status) => Err(refused(&status)),
        }
    }
}

/// It has answered. What it did not keep must not be sent again; what it says beside that is for people.
fn tell(feed: &mut ExportFeed, said: &ExportLogsPartialSuccess) {
    let rejected = u64::try_from(said.rejected_log_records).unwrap_or_default();
    if rejected > 0 || !said.error_message.is_empty() {
        feed.rejected(rejected);
        tracing::warn!(
            event = "audit_export_rejected",
            target = feed.target().kind(),
            rejected,
            said = short(&said.error_message),
            "the collector answered that it does not keep some records"
        );
    }
}

/// Which codes may pass by themselves, OTLP says. The others need a person, and are asked again seldom.
fn refused(status: &Status) -> Trouble {
    // What has a source did not come from the collector: the way there failed.
    if let Some(source) = status.source() {
        return Trouble::from(told(source));
    }
    let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
    let passes = match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::ResourceExhausted => asked.is_some(),
        _ => false,
    };
    let (code, said) = (status.code(), short(status.message()));
    match passes {
        true => Trouble {
            why: format!("the collector answers {code:?}: {said}"),
            not_before: asked.unwrap_or_default().min(LONGEST_PAUSE),
        },
        false => Trouble {
            why: format!("the collector refuses the records, {code:?}: {said}"),
            not_before: LONGEST_PAUSE,
        },
    }
}

/// The beginning of what somebody else says.
fn short(said: &str) -> String {
    said.chars().take(MOST).collect()
}

/// An error with what is behind it.
fn told(error: &(dyn Error + 'static)) -> String {
    let mut said = error.to_string();
    let mut behind = error.source();
    while let Some(error) = behind {
        let more = error.to_string();
        if !said.contains(&more) {
            said = format!("{said}: {more}");
        }
        behind = error.source();
    }
    said
}
