//! TLS with the Collector: which authorities to trust, and the client's own certificate.

use std::{fs, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::{
    env::{Env, Signal, Var},
    error::ConfigError,
};

/// Loads what `CERTIFICATE`, `CLIENT_CERTIFICATE` and `CLIENT_KEY` name, for an https endpoint.
///
/// `CERTIFICATE` replaces the system's authorities and does not add to them. For a plain http endpoint
/// none of the three is read, as the specification asks.
pub(super) fn load(
    env: Env<'_>,
    signal: Signal,
    secure: bool,
    endpoint: &Var,
) -> Result<Arc<ClientConfig>, ConfigError> {
    let var = |key| secure.then(|| env.otlp(signal, key)).flatten();
    let roots = match var("CERTIFICATE") {
        Some(var) => named_roots(&var)?,
        None if secure => system_roots(endpoint)?,
        None => RootCertStore::empty(),
    };
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|source| tls(endpoint, source))?
        .with_root_certificates(roots);
    let config = match (var("CLIENT_CERTIFICATE"), var("CLIENT_KEY")) {
        (None, None) => builder.with_no_client_auth(),
        (Some(certificate), Some(key)) => builder
            .with_client_auth_cert(certificates(&certificate)?, private_key(&key)?)
            .map_err(|source| tls(&certificate, source))?,
        (Some(half), None) => return Err(missing_half(&half, "CLIENT_CERTIFICATE", "CLIENT_KEY")),
        (None, Some(half)) => return Err(missing_half(&half, "CLIENT_KEY", "CLIENT_CERTIFICATE")),
    };
    Ok(Arc::new(config))
}

fn named_roots(var: &Var) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(var)? {
        roots.add(certificate).map_err(|source| tls(var, source))?;
    }
    Ok(roots)
}

fn system_roots(endpoint: &Var) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    // A system may trust certificates that rustls cannot parse. Use the others.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(ConfigError::NoRoots {
            variable: endpoint.name.clone(),
            endpoint: endpoint.value.clone(),
        });
    }
    Ok(roots)
}

fn certificates(var: &Var) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let pem = read(var)?;
    let certificates: Option<Vec<_>> = CertificateDer::pem_slice_iter(&pem)
        .map(Result::ok)
        .collect();
    certificates
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| no_pem(var, "one or more certificates"))
}

fn private_key(var: &Var) -> Result<PrivateKeyDer<'static>, ConfigError> {
    PrivateKeyDer::from_pem_slice(&read(var)?).map_err(|_| no_pem(var, "a private key"))
}

fn read(var: &Var) -> Result<Vec<u8>, ConfigError> {
    fs::read(&var.value).map_err(|source| ConfigError::Unreadable {
        variable: var.name.clone(),
        path: var.value.clone(),
        source,
    })
}

fn no_pem(var: &Var, expected: &'static str) -> ConfigError {
    ConfigError::Pem {
        variable: var.name.clone(),
        path: var.value.clone(),
        expected,
    }
}

fn tls(var: &Var, source: rustls::Error) -> ConfigError {
    ConfigError::Tls {
        variable: var.name.clone(),
        path: var.value.clone(),
        source,
    }
}

/// Names the missing half in the same form (`METRICS_` or shared) as the one that is set.
fn missing_half(half: &Var, key: &str, missing: &str) -> ConfigError {
    ConfigError::Half {
        missing: half.name.replace(key, missing),
        variable: half.name.clone(),
    }
}
