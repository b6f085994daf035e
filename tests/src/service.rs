//! A Service's ClusterIP on the node, as kube-proxy's nftables mode implements it: destination NAT to
//! the endpoint, or ICMP port unreachable without one.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use anyhow::Result;

use crate::netns::{Namespace, Pod};

/// A ClusterIP with one port.
#[derive(Debug)]
pub struct Service {
    node: Namespace,
    /// Its address; no interface has it.
    pub address: Ipv4Addr,
    /// Its port, and the endpoint's.
    pub port: u16,
}

impl Service {
    /// A service without endpoints.
    pub fn new(node: &Namespace, port: u16) -> Result<Self> {
        let service = Self {
            node: node.clone(),
            address: Ipv4Addr::new(10, 96, 0, 10),
            port,
        };
        // The kernel routes before it applies the rules below, and this node has no default route.
        node.ip(&format!("route replace {}/32 dev br0\n", service.address))?;
        service.set_endpoint(None)?;
        Ok(service)
    }

    /// Its address and port.
    pub fn socket(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, self.port)
    }

    /// Sends new connections to `pod`, or rejects them. Established ones stay, as with kube-proxy.
    pub fn set_endpoint(&self, pod: Option<&Pod>) -> Result<()> {
        let Self {
            node,
            address,
            port,
        } = self;
        let (translate, reject) = match pod.map(|pod| IpAddr::from(pod.v4)) {
            Some(pod) => (
                format!("ip daddr {address} tcp dport {port} dnat to {pod}"),
                String::new(),
            ),
            None => (
                String::new(),
                format!("ip daddr {address} tcp dport {port} reject with icmp port-unreachable"),
            ),
        };
        // Declared first, so that deleting it cannot fail.
        node.nft(&format!(
            "table ip service\n\
             delete table ip service\n\
             table ip service {{\n\
               chain translate {{\n\
                 type nat hook prerouting priority dstnat\n\
                 {translate}\n\
               }}\n\
               chain refuse {{\n\
                 type filter hook forward priority 0\n\
                 {reject}\n\
               }}\n\
               chain come_back {{\n\
                 type nat hook postrouting priority srcnat\n\
                 ct original ip daddr {address} masquerade\n\
               }}\n\
             }}\n"
        ))
    }
}
