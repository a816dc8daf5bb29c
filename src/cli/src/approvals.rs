//! `approval …`: a second principal for what cannot be taken back.

use fieldseal_api::v1;
use fieldseal_client::Client;
use serde_json::{Value, json};

use crate::arguments::{ApprovalCommand, ApproveArguments, RejectArguments};
use crate::confirm;
use crate::connection::{self, failure};
use crate::failure::{Exit, Failure};
use crate::keys::event;
use crate::output::{Output, Table, counted};
use crate::pages::Pages;
use crate::{times, values};

/// Requests on a page; the sidecar gives no more at a time.
const PAGE: i32 = 1000;

/// Runs `approval …`.
pub(crate) async fn run(command: ApprovalCommand, output: &Output) -> Result<(), Failure> {
    let client = connection::connect().await?;
    match command {
        ApprovalCommand::List => list(&client, output).await,
        ApprovalCommand::Show { id } => show(&find(&client, &id).await?, None, output),
        ApprovalCommand::Approve(arguments) => approve(&client, arguments, output).await,
        ApprovalCommand::Reject(arguments) => reject(&client, arguments, output).await,
    }
}

/// All of them, or the one of this name.
async fn all(client: &Client, name: &str) -> Result<Vec<v1::Approval>, Failure> {
    let (mut found, mut pages, mut page_token) = (Vec::new(), Pages::default(), String::new());
    loop {
        let name = name.to_owned();
        let request = v1::ListApprovalsRequest { page_size: PAGE, page_token, name };
        let page = client.system().list_approvals(request).await.map_err(|s| failure(&s))?;
        let page = page.into_inner();
        found.extend(page.approvals);
        match pages.next(page.next_page_token)? {
            Some(next) => page_token = next,
            None => return Ok(found),
        }
    }
}

/// `0123456789abcdef` and `approvals/0123456789abcdef` are the same.
fn name(id: &str) -> String {
    format!("approvals/{}", id.strip_prefix("approvals/").unwrap_or(id))
}

async fn find(client: &Client, id: &str) -> Result<v1::Approval, Failure> {
    let name = name(id);
    let found = all(client, &name).await?.into_iter().find(|approval| approval.name == name);
    found.ok_or_else(|| {
        Failure::new(Exit::NotFound, "APPROVAL_NOT_FOUND", format!("there is no {name}"))
            .advise("fieldseal approval list")
    })
}

async fn list(client: &Client, output: &Output) -> Result<(), Failure> {
    let all = all(client, "").await?;
    output.show(
        || json!({ "approvals": all.iter().map(bare_json).collect::<Vec<_>>() }),
        || {
            if all.is_empty() {
                return "nothing waits for a second principal".to_owned();
            }
            let mut table = Table::new(&["ID", "STATE", "WHAT", "REQUESTED BY", "EXPIRES"]);
            for approval in &all {
                table.row([
                    approval.name.trim_start_matches("approvals/"),
                    state(approval),
                    &what(approval),
                    &approval.requester,
                    &times::shown(approval.expire_time.as_ref()),
                ]);
            }
            table.text()
        },
    )
}

async fn approve(
    client: &Client,
    arguments: ApproveArguments,
    output: &Output,
) -> Result<(), Failure> {
    let found = find(client, &arguments.id).await?;
    // A change of the audit log is about no key, and has no name that could be typed but its own.
    let id = found.name.trim_start_matches("approvals/");
    let name = if found.key.is_empty() { id } else { found.key.trim_start_matches("keys/") };
    let asked = format!("{}, as {} asked", what(&found), found.requester);
    confirm::by_name(name, arguments.confirm.as_deref(), &asked)?;
    let request = v1::ApproveChangeRequest {
        name: found.name.clone(),
        etag: arguments.etag.unwrap_or(found.etag),
        reason: Some(values::reason(&arguments.reason)),
    };
    let done = client.system().approve_change(request).await.map_err(|s| failure(&s))?;
    let done = done.into_inner();
    show(&done.approval.unwrap_or_default(), done.receipt.as_ref(), output)
}

async fn reject(
    client: &Client,
    arguments: RejectArguments,
    output: &Output,
) -> Result<(), Failure> {
    let reason = Some(values::reason(&arguments.reason));
    let request = v1::RejectChangeRequest { name: name(&arguments.id), reason };
    let done = client.system().reject_change(request).await.map_err(|s| failure(&s))?;
    let done = done.into_inner();
    show(&done.approval.unwrap_or_default(), done.receipt.as_ref(), output)
}

fn show(
    approval: &v1::Approval,
    receipt: Option<&v1::AuditReceipt>,
    output: &Output,
) -> Result<(), Failure> {
    let record = event(receipt);
    output.show(
        || {
            let mut shown = bare_json(approval);
            if let Some(shown) = shown.as_object_mut() {
                shown.insert("partition".to_owned(), json!(approval.partition));
                shown.insert("event".to_owned(), json!(record));
            }
            shown
        },
        || {
            let mut table = Table::bare();
            table.row(["state", state(approval)]);
            table.row(["what", &what(approval)]);
            table.row(["requested by", &approval.requester]);
            table.row(["purpose", &approval.purpose]);
            table.row(["ticket", &approval.ticket]);
            table.row(["requested", &times::shown(approval.create_time.as_ref())]);
            table.row(["expires", &times::shown(approval.expire_time.as_ref())]);
            table.row(["decided by", &approval.decider]);
            table.row(["etag", &approval.etag]);
            if let Some(record) = &record {
                table.row(["record", record]);
            }
            format!("{}\n{}", approval.name, table.text())
        },
    )
}

fn state(approval: &v1::Approval) -> &'static str {
    match approval.state() {
        v1::ApprovalState::Pending => "pending",
        v1::ApprovalState::Approved => "approved",
        v1::ApprovalState::Rejected => "rejected",
        v1::ApprovalState::Expired => "expired",
        v1::ApprovalState::Unspecified => "unknown",
    }
}

/// What is asked for, in words. The name of a partition, which may be a person's, is there for whoever may
/// shred it.
fn what(approval: &v1::Approval) -> String {
    if !approval.key_version.is_empty() {
        let lost = counted(approval.data_keys_lost, "data key");
        return format!("destroy {}, and {lost} with it", approval.key_version);
    }
    if approval.key.is_empty() {
        return of_log(approval);
    }
    let partition = match (approval.partition.as_str(), approval.partition_token.as_str()) {
        ("", "") => "the default partition".to_owned(),
        ("", token) => format!("the partition with the token {token}"),
        (name, _) => format!("the partition {name}"),
    };
    let window = match &approval.window {
        Some(window) => format!(", which can be restored for {} hours", window.seconds / 3600),
        None => String::new(),
    };
    format!("shred {partition} of {}{window}", approval.key)
}

/// What is asked for of the audit log, in words. Whose detail it is, nobody is told but by a token.
fn of_log(approval: &v1::Approval) -> String {
    let count = |count: i64, one: &str| counted(u64::try_from(count).unwrap_or(0), one);
    let events = count(approval.event_count, "event");
    let before = times::shown(approval.end_time.as_ref());
    if approval.segment_count > 0 {
        let segments = count(approval.segment_count, "segment");
        return format!("move {events} in {segments}, all before {before}, to the archive");
    }
    let tokens = [&approval.partition_token, &approval.row_token, &approval.end_user_token];
    let who = match tokens.map(|token| token.is_empty()) {
        [false, ..] => format!("the partition with the token {}", approval.partition_token),
        [_, false, _] => format!("the row with the token {}", approval.row_token),
        [.., false] => format!("the end user with the token {}", approval.end_user_token),
        _ => "everybody".to_owned(),
    };
    let fields = count(approval.item_count, "field");
    format!("erase the detail of {who} from {events} ({fields}), all before {before}")
}

/// Everything but the name of a partition.
fn bare_json(approval: &v1::Approval) -> Value {
    json!({
        "name": approval.name, "etag": approval.etag, "state": state(approval),
        "action": approval.action, "key": approval.key, "key_version": approval.key_version,
        "data_keys_lost": approval.data_keys_lost, "partition_token": approval.partition_token,
        "window_seconds": approval.window.as_ref().map(|window| window.seconds),
        "requester": approval.requester, "purpose": approval.purpose, "ticket": approval.ticket,
        "create_time": times::json(approval.create_time.as_ref()),
        "expire_time": times::json(approval.expire_time.as_ref()), "decider": approval.decider,
        "end_time": times::json(approval.end_time.as_ref()), "event_count": approval.event_count,
        "item_count": approval.item_count, "segment_count": approval.segment_count,
        "row_token": approval.row_token, "end_user_token": approval.end_user_token,
    })
}
