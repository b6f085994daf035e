//! The cluster's certificates and kubeconfigs.

use std::{fs, net::Ipv4Addr, path::PathBuf};

use anyhow::{Context as _, Result};

use super::write;
use crate::collector::sign;

/// The directory of certificates, `<name>.crt` with `<name>.key`.
#[derive(Clone, Debug)]
pub(crate) struct Pki(PathBuf);

impl Pki {
    /// Makes all certificates that a cluster needs, valid for two days.
    pub(crate) fn make(directory: PathBuf, node: Ipv4Addr, service: Ipv4Addr) -> Result<Self> {
        fs::create_dir(&directory).with_context(|| format!("create {}", directory.display()))?;
        let pki = Self(directory);
        let authority = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n";
        sign(
            "CN=cluster authority",
            authority,
            None,
            &pki.certificate("ca"),
            &pki.key("ca"),
        )?;
        pki.issue(
            "apiserver",
            "CN=kube-apiserver",
            &format!(
                "extendedKeyUsage=serverAuth\n\
                 subjectAltName=DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,\
                 IP:127.0.0.1,IP:{node},IP:{service}\n"
            ),
        )?;
        // Signs the tokens of service accounts.
        pki.issue("service-accounts", "CN=service-accounts", CLIENT)?;
        for (name, subject) in CLIENTS {
            pki.issue(name, subject, CLIENT)?;
        }
        Ok(pki)
    }

    pub(crate) fn certificate(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.crt"))
    }

    pub(crate) fn key(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.key"))
    }

    /// The kubeconfig of a client.
    pub(crate) fn kubeconfig(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.conf"))
    }

    /// Writes the kubeconfigs of all clients of the API server at `server`.
    pub(crate) fn write_kubeconfigs(&self, server: &str) -> Result<()> {
        for (name, _) in CLIENTS {
            let text = format!(
                "apiVersion: v1
kind: Config
current-context: testbed
clusters:
- name: testbed
  cluster:
    server: {server}
    certificate-authority: {}
users:
- name: {name}
  user:
    client-certificate: {}
    client-key: {}
contexts:
- name: testbed
  context: {{cluster: testbed, user: {name}}}
",
                self.certificate("ca").display(),
                self.certificate(name).display(),
                self.key(name).display()
            );
            write(self.kubeconfig(name), &text)?;
        }
        Ok(())
    }

    fn issue(&self, name: &str, subject: &str, extensions: &str) -> Result<()> {
        let extensions = format!("basicConstraints=critical,CA:FALSE\n{extensions}");
        let (ca, ca_key) = (self.certificate("ca"), self.key("ca"));
        sign(
            subject,
            &extensions,
            Some((&ca, &ca_key)),
            &self.certificate(name),
            &self.key(name),
        )
    }
}

const CLIENT: &str = "extendedKeyUsage=clientAuth\n";

/// File names, and the subjects that Kubernetes binds its own roles to.
const CLIENTS: [(&str, &str); 7] = [
    ("admin", "O=system:masters\nCN=admin"),
    (
        "apiserver-kubelet",
        "O=system:masters\nCN=kube-apiserver-kubelet-client",
    ),
    ("controller-manager", "CN=system:kube-controller-manager"),
    ("scheduler", "CN=system:kube-scheduler"),
    ("kubelet", "O=system:nodes\nCN=system:node:node"),
    ("proxy", "CN=system:kube-proxy"),
    // Without any right of its own.
    ("statlink", "CN=statlink"),
];
