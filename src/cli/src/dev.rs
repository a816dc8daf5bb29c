//! `dev`: a sidecar in the foreground that forgets everything, for an application's developer.

mod env_file;
mod environment;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use fieldseal_policy::Role;
use fieldseal_server::config::{Config, Environment};
use serde_json::json;

use crate::address;
use crate::arguments::dev::DevArguments;
use crate::connection::{environment, quoted_path};
use crate::failure::Failure;
use crate::installation::{self, Created, Plan};
use crate::output::{Output, Table};
use crate::serve;
use crate::signals::{ReloadSignal, StopSignals};

/// Where it listens unless told otherwise: a free port.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// The caller of the environment file: it may do everything.
const DEVELOPER: &str = "developer";

pub(crate) use environment::{VARIABLE, stands_for_dev};

/// Runs `dev` until Ctrl-C or SIGTERM.
pub(crate) async fn run(arguments: DevArguments, output: &Output) -> Result<(), Failure> {
    let arguments = environment::complete(arguments, &Environment::of_process())?;
    if let Some(path) = &arguments.env_file {
        env_file::check(path)?;
    }
    let listen = arguments.listen.unwrap_or(LISTEN);
    // Before anything is made: a signal that ends the process would leave its directory behind.
    let stop = StopSignals::listen_with_hangup()?;
    let place = tempfile::Builder::new()
        .prefix("fieldseal-dev-")
        .tempdir()
        .map_err(|e| Failure::io("cannot make a directory in", &std::env::temp_dir(), &e))?;
    let mut plan = Plan::new(place.path(), listen)
        .with_dev_caller(DEVELOPER, &Role::ALL)?
        .with_dev_caller("app", &[Role::App])?
        .with_dev_caller("ops", &[Role::Operator])?
        .with_dev_caller("auditor", &[Role::Auditor])?;
    plan.server_names.extend(arguments.server_name.clone());
    plan.in_memory = true;
    plan.reflection = true;
    plan.probes = installation::ANY_PORT;
    plan.address_file = Some("address".to_owned());
    plan.settings.push(("probes.address_file", "probes".to_owned()));
    plan.settings.push(("audit.segment_mib", "4".to_owned()));
    let created = installation::create(&plan).await?;
    let config = Config::load_with_origins(&created.config(), &Environment::default());
    let (config, _) = config.map_err(|e| serve::config_failure(&e))?;
    let told = async {
        let listening = address::appears(&created.dir.join("address")).await;
        let mut settings = created.client(DEVELOPER, listening);
        settings.endpoint = endpoint(listening, arguments.server_name.as_deref());
        let probes = address::appears(&created.dir.join("probes")).await;
        let text = format!("{}export FIELDSEAL_HEALTH_ADDRESS={probes}\n", environment(&settings));
        if let Some(path) = &arguments.env_file {
            env_file::write(path, &text)?;
        }
        introduce(output, &created, &settings, (probes, &text, arguments.env_file.as_deref()))?;
        // The sidecar alone decides when this is over.
        std::future::pending::<Result<(), Failure>>().await
    };
    let ended = tokio::select! {
        ended = serve::run(config, stop, ReloadSignal::never()) => ended,
        failed = told => failed,
    };
    if let Some(path) = &arguments.env_file {
        env_file::remove(path, &created.dir);
    }
    ended
}

/// Where a client finds it: an address that means all addresses is none to connect to.
fn endpoint(listening: SocketAddr, server_name: Option<&str>) -> String {
    let port = listening.port();
    if let Some(name) = server_name {
        return format!("https://{name}:{port}");
    }
    let ip = match listening.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    format!("https://{}", SocketAddr::new(ip, port))
}

fn introduce(
    output: &Output,
    created: &Created,
    settings: &fieldseal_client::Settings,
    (probes, environment, env_file): (SocketAddr, &str, Option<&Path>),
) -> Result<(), Failure> {
    output.show(
        || {
            json!({
                "endpoint": settings.endpoint, "probes": probes.to_string(), "ca": settings.ca,
                "certificate": settings.certificate, "private_key": settings.private_key,
                "env_file": env_file,
            })
        },
        || {
            let mut table = Table::bare();
            table.row(["endpoint", &settings.endpoint]);
            table.row(["probes", &probes.to_string()]);
            table.row(["certificates", &created.dir.join("tls").display().to_string()]);
            table.row(["callers", "developer (every role), app, ops, auditor"]);
            let environment = match env_file {
                Some(path) => format!(
                    "in another terminal\n  . {}\n  fieldseal key create customer-pii",
                    dotted(path)
                ),
                None => environment.to_owned(),
            };
            format!(
                "fieldseal dev: keys in memory, everything is gone after Ctrl-C\n{}\n{environment}",
                table.text()
            )
        },
    )
}

/// A path as `.` finds it: without a slash a shell would look in PATH.
fn dotted(path: &Path) -> String {
    let text = quoted_path(path);
    if text.contains('/') { text } else { format!("./{text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_where_it_can_connect() {
        for (listening, name, endpoint_of) in [
            ("127.0.0.1:1", None, "https://127.0.0.1:1"),
            ("0.0.0.0:1", None, "https://127.0.0.1:1"),
            ("[::]:1", None, "https://[::1]:1"),
            ("0.0.0.0:1", Some("fieldseal"), "https://fieldseal:1"),
        ] {
            assert_eq!(endpoint(listening.parse().unwrap(), name), endpoint_of);
        }
    }
}
