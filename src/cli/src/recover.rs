//! `recover`: a value of a stopped installation, with the recovery identity alone.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use fieldseal_crypto::ContentType;
use fieldseal_crypto::field::{self, Header};
use fieldseal_engine::offline::{self, RecoverError};
use fieldseal_engine::{Refusal, SealedInput};
use fieldseal_keys::keyring;
use fieldseal_model::{
    AccessReason, Column, ExtraContext, Field, KeyName, Partition, Principal, PrincipalKind,
    Purpose, Row, SystemClock, Table, Ticket,
};
use fieldseal_server::Config;
use fieldseal_service::errors::status;
use rustix::process::geteuid;
use zeroize::Zeroizing;

use crate::arguments::{PlaceArguments, RecoverArguments};
use crate::connection;
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::serve;
use crate::values::{ciphertext, show_value, standard_input};

/// Runs `recover`.
pub(crate) async fn run(arguments: RecoverArguments, output: &Output) -> Result<(), Failure> {
    let config = Config::load(&arguments.config).map_err(|e| serve::config_failure(&e))?;
    refuse_other_user(&config.state.directory, "recover")?;
    let identity = identity_of(&arguments.identity)?;
    let keyring = keyring::open_with_identity(&config.state.keyring(), &identity);
    let keyring =
        keyring.map_err(|e| serve::advise_missing(serve::keyring_failure(&e), &config.state))?;
    let value = ciphertext(&standard_input("the ciphertext")?);
    let (of, input) = parse(&arguments.place, &value)?;
    let reason = AccessReason {
        purpose: Purpose::parse(&arguments.reason.purpose)?,
        ticket: Ticket::parse(&arguments.reason.ticket)?,
        end_user: None,
    };
    let user = rustix::process::getuid().as_raw().to_string();
    let local = Principal::new(PrincipalKind::Local, &user)?;
    let call = offline::single(of, input, reason);
    let settings = fieldseal_server::engine_settings(&config);
    let reply = offline::recover(settings, keyring, Arc::new(SystemClock), local, call).await;
    let reply = reply.map_err(|error| match &error {
        RecoverError::Boot(boot) => serve::advise_missing(serve::boot_failure(boot), &config.state),
        RecoverError::Refused(refusal) => refused(refusal),
        _ => Failure::new(Exit::Internal, "INTERNAL", error.to_string()),
    })?;
    let no_answer = || Failure::new(Exit::Internal, "INTERNAL", "the value has no answer");
    let item = reply.items.first().ok_or_else(no_answer)?;
    let item = item.as_ref().map_err(refused)?;
    let opened = reply.buffer.get(item.range.clone()).unwrap_or_default();
    show_value(output, opened, item.content == ContentType::Text, |json| {
        json.insert("key_version".into(), item.key_version.to_string().into());
        let (log, index) = (reply.receipt.log(), reply.receipt.index());
        json.insert("event".into(), format!("logs/{log}/events/{index}").into());
    })
}

/// The text of the identity's file. An `age` identity is text, so another file is not it.
pub(crate) fn identity_of(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let bytes = std::fs::read(path).map(Zeroizing::new);
    let bytes = bytes.map_err(|e| Failure::io("cannot read", path, &e))?;
    let text = std::str::from_utf8(&bytes).map_err(|_| {
        let what = format!("{} holds no age identity, but bytes that are no text", path.display());
        Failure::usage("IDENTITY_WRONG", what)
            .advise("name the file with the line that begins with AGE-SECRET-KEY-1")
    })?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// A refusal says the same here and on the wire.
fn refused(refusal: &Refusal) -> Failure {
    connection::failure(&status(refusal))
}

/// Opening the state makes files anew (the store's, the log's). Another user's service could not
/// open them afterwards.
pub(crate) fn refuse_other_user(state: &Path, command: &str) -> Result<(), Failure> {
    refuse_user(state, command, geteuid().as_raw())
}

fn refuse_user(state: &Path, command: &str, user: u32) -> Result<(), Failure> {
    let found = match state.metadata() {
        // That there is no installation is said better elsewhere.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|e| Failure::io("cannot use", state, &e))?,
    };
    let owner = found.uid();
    if owner == user {
        return Ok(());
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = user_name(&users, owner).unwrap_or_else(|| format!("'#{owner}'"));
    let what = format!("{} belongs to user {owner}, and this is user {user}", state.display());
    Err(Failure::new(Exit::Denied, "STATE_OF_OTHER_USER", what).advise(format!(
        "run it as the owner, who must be able to read the files that it names: sudo -u {name} \
         fieldseal {command} …"
    )))
}

/// The name of a user (passwd(5)).
fn user_name(users: &str, id: u32) -> Option<String> {
    let mut lines = users.lines().map(|line| line.split(':'));
    lines.find_map(|mut parts| {
        let (name, number) = (parts.next()?, parts.nth(1)?);
        (number.parse() == Ok(id)).then(|| name.to_owned())
    })
}

fn parse(place: &PlaceArguments, value: &bytes::Bytes) -> Result<(Field, SealedInput), Failure> {
    let pairs = place.field.context.iter().map(|(n, v)| (n.as_str(), v.as_str()));
    let of = Field {
        key: KeyName::parse(&place.field.key)?,
        table: Table::parse(&place.field.table)?,
        column: Column::parse(&place.column)?,
        extra: ExtraContext::parse(pairs)?,
    };
    let ciphertext = bytes::Bytes::from(field::decode_text(value)?.into_owned());
    let input = SealedInput {
        partition: Partition::parse(&place.partition)?,
        row: Row::parse(&place.row)?,
        key_id: Header::parse(&ciphertext)?.key_id,
        ciphertext,
    };
    Ok((of, input))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_owner_of_the_state_may_open_it() {
        let dir = tempfile::tempdir().unwrap();
        let owner = geteuid().as_raw();
        assert!(refuse_user(dir.path(), "recover", owner).is_ok());
        assert!(refuse_user(&dir.path().join("none"), "recover", owner + 1).is_ok());
        let refused = refuse_user(dir.path(), "recover", owner + 1).unwrap_err();
        assert_eq!((refused.exit(), refused.reason()), (Exit::Denied, "STATE_OF_OTHER_USER"));
        assert!(refused.to_string().contains("sudo -u "), "{refused}");
    }

    #[test]
    fn a_user_has_a_name() {
        let users = "root:x:0:0:root:/root:/bin/sh\nfieldseal:x:990:990::/:/usr/sbin/nologin\n";
        assert_eq!(user_name(users, 990).as_deref(), Some("fieldseal"));
        assert_eq!(user_name(users, 7), None);
    }
}
