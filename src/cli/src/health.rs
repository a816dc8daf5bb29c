//! `health`: a probe from inside a container or a unit, without a certificate.

use std::net::SocketAddr;

use fieldseal_server::config::{Config, DEFAULT_PROBES, Environment, ProbeSettings};
use fieldseal_server::probes::{Probe, ProbeError, ask};
use serde_json::json;

use crate::address;
use crate::arguments::{HealthArguments, ProbeKind};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::serve::config_failure;

const LISTEN: &str = "FIELDSEAL_PROBES_LISTEN";
const ADDRESS_FILE: &str = "FIELDSEAL_PROBES_ADDRESS_FILE";
/// What to do where nobody answers.
const START: &str = "start the sidecar, or say where it answers probes: --address, or --config with \
    its configuration";

/// Runs `health`. A sidecar that says no ends it as unavailable, and so does one that says nothing.
pub(crate) async fn run(arguments: HealthArguments, output: &Output) -> Result<(), Failure> {
    let probe = match arguments.probe {
        ProbeKind::Liveness => Probe::Liveness,
        ProbeKind::Readiness => Probe::Readiness,
    };
    let address = asked(&arguments)?;
    let answer = ask(address, probe).await.map_err(|error| unanswered(&error))?;
    if !answer.ok {
        return Err(Failure::new(Exit::Unavailable, "NOT_READY", answer.says));
    }
    output.show(
        || json!({ "address": address.to_string(), "answer": answer.says }),
        || answer.says.clone(),
    )
}

/// The argument or its variable, or else what the configuration says with its environment, or else
/// the environment alone, or else the default.
fn asked(arguments: &HealthArguments) -> Result<SocketAddr, Failure> {
    match (&arguments.address, &arguments.config) {
        (Some(address), _) => Ok(*address),
        (None, None) => configured(&of_environment(&Environment::of_process())?),
        (None, Some(file)) => {
            let config = Config::load(file).map_err(|e| config_failure(&e))?;
            configured(&config.probes)
        }
    }
}

/// Where a sidecar answers that is set up by these variables.
fn of_environment(environment: &Environment) -> Result<ProbeSettings, Failure> {
    let address_file = environment.other(ADDRESS_FILE).map(Into::into);
    let Some(text) = environment.other(LISTEN) else {
        return Ok(ProbeSettings { listen: Some(DEFAULT_PROBES), address_file });
    };
    let listen = text.to_string_lossy().parse().map_err(|_| {
        let what = format!("{LISTEN}: expected an address and a port, such as {DEFAULT_PROBES}");
        Failure::usage("VARIABLE_INVALID", what)
    })?;
    Ok(ProbeSettings { listen: Some(listen), address_file })
}

/// Where a sidecar with these settings answers. One that took a free port says which in its file.
fn configured(probes: &ProbeSettings) -> Result<SocketAddr, Failure> {
    let off = "the configuration switches probes off";
    let listen = probes.listen.ok_or_else(|| {
        Failure::usage("PROBES_OFF", off).advise("set an address: [probes] listen")
    })?;
    if listen.port() != 0 {
        return Ok(listen);
    }
    let Some(file) = &probes.address_file else {
        let what = "the configuration has port 0 for probes, and no file that says which it is";
        return Err(Failure::usage("ADDRESS_UNKNOWN", what)
            .advise("set [probes] address_file, or pass --address"));
    };
    address::read(file).ok_or_else(|| {
        let what = format!("no sidecar answers probes: there is no {}", file.display());
        Failure::new(Exit::Unavailable, "UNREACHABLE", what).advise(START)
    })
}

fn unanswered(error: &ProbeError) -> Failure {
    let (exit, reason) = match error {
        ProbeError::Unreachable(..) => (Exit::Unavailable, "UNREACHABLE"),
        ProbeError::Slow(_) => (Exit::Unavailable, "TIMED_OUT"),
        ProbeError::Foreign(_) => (Exit::Usage, "NOT_A_SIDECAR"),
    };
    let failure = Failure::new(exit, reason, error.to_string());
    if reason == "UNREACHABLE" { failure.advise(START) } else { failure }
}
