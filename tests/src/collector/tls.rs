//! Certificates for one test, made by openssl.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::Tls;
use crate::netns::run;

/// An authority, and what it signed: files in PEM.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The authority's certificate: what a client trusts.
    pub ca: PathBuf,
    /// The certificate of a server on `localhost` and 127.0.0.1.
    pub server: PathBuf,
    /// The server's key.
    pub server_key: PathBuf,
    /// A client's certificate.
    pub client: PathBuf,
    /// The client's key.
    pub client_key: PathBuf,
}

impl Certificates {
    /// Makes them in `directory`, valid for two days.
    pub fn make(directory: &Path) -> Result<Self> {
        let file = |name: &str| directory.join(name);
        let (ca, ca_key) = (file("ca.pem"), file("ca.key"));
        let made = Self {
            ca: ca.clone(),
            server: file("server.pem"),
            server_key: file("server.key"),
            client: file("client.pem"),
            client_key: file("client.key"),
        };
        let authority = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n";
        let server = "basicConstraints=critical,CA:FALSE\n\
                      extendedKeyUsage=serverAuth\n\
                      subjectAltName=DNS:localhost,IP:127.0.0.1\n";
        let client = "basicConstraints=critical,CA:FALSE\n\
                      extendedKeyUsage=clientAuth\n\
                      subjectAltName=DNS:statlink\n";
        sign("CN=test authority", authority, None, &ca, &ca_key)?;
        let signer = Some((ca.as_path(), ca_key.as_path()));
        sign(
            "CN=localhost",
            server,
            signer,
            &made.server,
            &made.server_key,
        )?;
        sign(
            "CN=statlink",
            client,
            signer,
            &made.client,
            &made.client_key,
        )?;
        Ok(made)
    }

    /// The Collector's side: TLS, and a client's certificate if `mutual`.
    pub fn tls(&self, mutual: bool) -> Tls {
        Tls {
            certificate: self.server.clone(),
            key: self.server_key.clone(),
            client_ca: mutual.then(|| self.ca.clone()),
        }
    }
}

/// Makes a certificate with its key, signed by `by` or by itself. The subject is lines of name=value.
pub(crate) fn sign(
    subject: &str,
    extensions: &str,
    by: Option<(&Path, &Path)>,
    to: &Path,
    key: &Path,
) -> Result<()> {
    // The machine's own configuration would add extensions.
    let config = to.with_extension("cnf");
    let text = format!(
        "[req]\ndistinguished_name=dn\nx509_extensions=v3\nprompt=no\n\
         [dn]\n{subject}\n[v3]\n{extensions}"
    );
    fs::write(&config, text).with_context(|| format!("write {}", config.display()))?;
    let mut openssl = Command::new("openssl");
    openssl
        .args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec"])
        .args(["-pkeyopt", "ec_paramgen_curve:prime256v1", "-config"])
        .arg(&config)
        .arg("-keyout")
        .arg(key)
        .arg("-out")
        .arg(to);
    if let Some((ca, ca_key)) = by {
        openssl.arg("-CA").arg(ca).arg("-CAkey").arg(ca_key);
    }
    run(&mut openssl).map(drop)
}
