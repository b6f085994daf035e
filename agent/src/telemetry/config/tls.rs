//! TLS with the Collector: the trusted authorities and the client's own certificate.

use std::{fmt, fs, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use super::{
    env::{Env, Signal, Var},
    error::ConfigError,
};

/// TLS with one destination: where its certificates are, and their content at the start.
///
/// A connector reads the files again ([`Self::read`], [`Self::build`]): certificates are renewed
/// while the agent runs.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    endpoint: Var,
    trust: Trust,
    identity: Option<Identity>,
    /// The files' content at the start.
    pub(crate) first_read: Files,
    /// The configuration built from it.
    pub(crate) first: Arc<ClientConfig>,
}

/// The trusted authorities.
#[derive(Clone, Debug)]
enum Trust {
    /// None: the endpoint is plain http.
    Nobody,
    /// The system's authorities.
    System(RootCertStore),
    /// Those of a file.
    Named(Var),
}

/// The client's own certificate.
#[derive(Clone, Debug)]
struct Identity {
    certificate: Var,
    key: Var,
}

/// The files' content. A file that is not named is empty.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Files {
    authorities: Vec<u8>,
    certificate: Vec<u8>,
    key: Vec<u8>,
}

/// One of them holds a secret.
impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files").finish_non_exhaustive()
    }
}

impl Tls {
    /// Loads the files of `CERTIFICATE`, `CLIENT_CERTIFICATE` and `CLIENT_KEY` for an https
    /// endpoint.
    ///
    /// `CERTIFICATE` replaces the system's authorities; it does not add to them. For a plain http
    /// endpoint none of the three is read, as the specification demands.
    pub(super) fn load(
        env: Env<'_>,
        signal: Signal,
        secure: bool,
        endpoint: &Var,
    ) -> Result<Self, ConfigError> {
        let var = |key| secure.then(|| env.otlp(signal, key)).flatten();
        let trust = match var("CERTIFICATE") {
            Some(var) => Trust::Named(var),
            None if secure => Trust::System(system_roots(endpoint)?),
            None => Trust::Nobody,
        };
        let identity = match (var("CLIENT_CERTIFICATE"), var("CLIENT_KEY")) {
            (None, None) => None,
            (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
            (Some(half), None) => {
                return Err(missing_half(&half, "CLIENT_CERTIFICATE", "CLIENT_KEY"));
            }
            (None, Some(half)) => {
                return Err(missing_half(&half, "CLIENT_KEY", "CLIENT_CERTIFICATE"));
            }
        };
        let mut tls = Self {
            endpoint: endpoint.clone(),
            trust,
            identity,
            first_read: Files::default(),
            first: Arc::new(trusting(endpoint, RootCertStore::empty())?.with_no_client_auth()),
        };
        tls.first_read = tls.read()?;
        tls.first = tls.build(&tls.first_read)?;
        Ok(tls)
    }

    /// Whether files are named; these may change.
    pub(crate) const fn has_files(&self) -> bool {
        matches!(self.trust, Trust::Named(_)) || self.identity.is_some()
    }

    /// Reads the files.
    ///
    /// # Errors
    ///
    /// If one cannot be read.
    pub(crate) fn read(&self) -> Result<Files, ConfigError> {
        let mut files = Files::default();
        if let Trust::Named(var) = &self.trust {
            files.authorities = read(var)?;
        }
        if let Some(Identity { certificate, key }) = &self.identity {
            files.certificate = read(certificate)?;
            files.key = read(key)?;
        }
        Ok(files)
    }

    /// Builds the configuration of connections from the files' content.
    ///
    /// # Errors
    ///
    /// If a file has the wrong content, or certificate and key do not belong together.
    pub(crate) fn build(&self, files: &Files) -> Result<Arc<ClientConfig>, ConfigError> {
        let roots = match &self.trust {
            Trust::Nobody => RootCertStore::empty(),
            Trust::System(roots) => roots.clone(),
            Trust::Named(var) => named_roots(var, &files.authorities)?,
        };
        let builder = trusting(&self.endpoint, roots)?;
        Ok(Arc::new(match &self.identity {
            None => builder.with_no_client_auth(),
            Some(Identity { certificate, key }) => builder
                .with_client_auth_cert(
                    certificates(certificate, &files.certificate)?,
                    private_key(key, &files.key)?,
                )
                .map_err(|source| tls(certificate, source))?,
        }))
    }
}

fn trusting(
    endpoint: &Var,
    roots: RootCertStore,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>, ConfigError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|source| tls(endpoint, source))?;
    Ok(builder.with_root_certificates(roots))
}

fn named_roots(var: &Var, pem: &[u8]) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(var, pem)? {
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

fn certificates(var: &Var, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let certificates: Option<Vec<_>> = CertificateDer::pem_slice_iter(pem)
        .map(Result::ok)
        .collect();
    certificates
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(|| no_pem(var, "one or more certificates"))
}

fn private_key(var: &Var, pem: &[u8]) -> Result<PrivateKeyDer<'static>, ConfigError> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|_| no_pem(var, "a private key"))
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
