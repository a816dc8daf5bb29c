//! Asking the sidecar, page by page.

use std::time::Duration;

use fieldseal_api::v1;
use fieldseal_client::AuditClient;
use prost_types::Timestamp;
use tonic::Request;

use super::report::Report;
use super::zone::Zone;
use crate::arguments::AskArguments;
use crate::beginning::Beginning;
use crate::connection::{self, failure};
use crate::failure::Failure;
use crate::pages::Pages;
use crate::values;

/// Groups or events that the sidecar gives at a time.
const PAGE: usize = 1000;
/// A question goes through the log. The sidecar grants no longer deadline than this.
const DEADLINE: Duration = Duration::from_secs(60);

/// A question on its way.
pub(super) struct Asked {
    client: AuditClient,
    pub(super) zone: Zone,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    /// Who vouches for whom; empty for anyone.
    end_user: (String, String),
    /// A fingerprint; empty for any.
    certificate: String,
    reason: v1::AccessReason,
    limit: usize,
    page_token: String,
    begins: Beginning,
    /// How many records the log had that the first answer shows; 0 before it came.
    tree_size: i64,
}

/// What was counted.
#[derive(Default)]
pub(super) struct Groups {
    pub(super) groups: Vec<v1::AccessGroup>,
    pub(super) next: String,
    /// How many groups there are in all.
    pub(super) count: i64,
    pub(super) total: v1::AccessGroup,
    /// Events that could have matched before their detail was erased.
    pub(super) redacted: i64,
}

impl Asked {
    pub(super) async fn new(ask: AskArguments) -> Result<Self, Failure> {
        let zone = Zone::new(ask.local);
        let since = ask.since.as_deref().map(|text| zone.since(text)).transpose()?;
        let until = ask.until.as_deref().map(|text| zone.until(text)).transpose()?;
        let mut end_user = ask.end_user.into_iter();
        let mut named = || end_user.next().unwrap_or_default();
        Ok(Self {
            end_user: (named(), named()),
            certificate: ask.certificate.wire(),
            client: connection::connect().await?.audit(),
            zone,
            since,
            until,
            reason: values::reason(&ask.reason),
            limit: usize::try_from(ask.limit).unwrap_or(usize::MAX),
            page_token: ask.page_token,
            begins: Beginning::default(),
            tree_size: 0,
        })
    }

    /// A query of the range that was asked about.
    pub(super) fn query(&self) -> v1::AuditEventQuery {
        v1::AuditEventQuery {
            start_time: self.since,
            end_time: self.until,
            end_user_issuer: self.end_user.0.clone(),
            end_user_subject: self.end_user.1.clone(),
            certificate: self.certificate.clone(),
            omit_housekeeping: true,
            ..Default::default()
        }
    }

    /// The end of the range, or now.
    pub(super) fn until(&self) -> Timestamp {
        self.until.unwrap_or_else(|| std::time::SystemTime::now().into())
    }

    /// Where the log begins that the last answer was taken from.
    pub(super) fn begins(&self) -> &Beginning {
        &self.begins
    }

    /// An empty report on this range, after the question was asked.
    pub(super) fn report(&self) -> Report {
        Report::new(self.zone, self.since, self.until).begins(&self.begins)
    }

    /// Groups from the page that was asked for, up to the limit.
    pub(super) async fn groups(
        &mut self,
        query: &v1::AuditEventQuery,
        by: &[v1::AccessGrouping],
    ) -> Result<Groups, Failure> {
        let (token, limit) = (self.page_token.clone(), self.limit);
        self.count(query, by, token, limit).await
    }

    /// Every group, whatever the limit, of the log as the first answer showed it.
    pub(super) async fn all_groups(
        &mut self,
        query: &v1::AuditEventQuery,
        by: &[v1::AccessGrouping],
    ) -> Result<Groups, Failure> {
        self.count(query, by, String::new(), usize::MAX).await
    }

    async fn count(
        &mut self,
        query: &v1::AuditEventQuery,
        by: &[v1::AccessGrouping],
        page_token: String,
        limit: usize,
    ) -> Result<Groups, Failure> {
        let mut found = Groups::default();
        let mut pages = Pages::default();
        let mut next = Some(page_token);
        while let Some(page_token) = next {
            let size = PAGE.min(limit.saturating_sub(found.groups.len()));
            let request = with_deadline(v1::SummarizeAccessRequest {
                parent: String::new(),
                query: Some(query.clone()),
                group_by: by.iter().map(|by| (*by).into()).collect(),
                page_size: i32::try_from(size).unwrap_or(i32::MAX),
                page_token,
                reason: Some(self.reason.clone()),
                tree_size: self.tree_size,
            });
            let reply = self.client.summarize_access(request).await;
            let reply = reply.map_err(|s| failure(&s))?.into_inner();
            found.groups.extend(reply.access_groups);
            found.count = reply.total_size;
            found.total = reply.total.unwrap_or_default();
            found.redacted = reply.redacted_event_count;
            self.begins = Beginning { index: reply.log_first_index, time: reply.log_start_time };
            self.tree_size = reply.tree_size;
            found.next.clone_from(&reply.next_page_token);
            next = pages.next(reply.next_page_token)?.filter(|_| found.groups.len() < limit);
        }
        Ok(found)
    }

    /// Events, the newest first, from the page that was asked for, up to the limit; and where to go
    /// on. Of batches only the items that match.
    pub(super) async fn events(
        &mut self,
        query: &v1::AuditEventQuery,
    ) -> Result<(Vec<v1::AuditEvent>, String), Failure> {
        let mut events = Vec::new();
        let mut pages = Pages::default();
        let mut next = Some(self.page_token.clone());
        let mut last = String::new();
        while let Some(page_token) = next {
            let size = PAGE.min(self.limit.saturating_sub(events.len()));
            let request = with_deadline(v1::QueryAuditEventsRequest {
                parent: String::new(),
                query: Some(query.clone()),
                page_size: i32::try_from(size).unwrap_or(i32::MAX),
                page_token,
                order_by: String::new(),
                include_items: true,
                reason: Some(self.reason.clone()),
                matching_items_only: true,
            });
            let reply = self.client.query_audit_events(request).await;
            let reply = reply.map_err(|s| failure(&s))?.into_inner();
            self.begins = Beginning { index: reply.log_first_index, time: reply.log_start_time };
            self.tree_size = reply.tree_size;
            events.extend(reply.audit_events);
            last.clone_from(&reply.next_page_token);
            next = pages.next(reply.next_page_token)?.filter(|_| events.len() < self.limit);
        }
        Ok((events, last))
    }
}

pub(super) fn with_deadline<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}
