//! Why a broker's certificate isn't taken. librdkafka says no more than that it could not be verified, so the broker is
//! asked for it once more.

use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use openssl::ssl::{SslConnector, SslMethod, SslRef, SslVerifyMode};
use openssl::x509::X509;

use crate::config;

const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// What is wrong with the certificate of the broker that `said`, a message of librdkafka's, is about; `None` where that
/// can't be told.
pub(super) fn wrong(kafka: &config::Kafka, said: &str) -> Option<String> {
    let (_, broker) = said.split_once("://")?;
    let (broker, _) = broker.split_once('/')?;
    let (host, _) = broker.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut client = SslConnector::builder(SslMethod::tls_client()).ok()?;
    let get = |name: &str| kafka.properties.0.get(name).filter(|value| *value != "probe");
    if let Some(file) = get("ssl.ca.location") {
        client.set_ca_file(file).ok()?;
    }
    for authority in X509::stack_from_pem(get("ssl.ca.pem").map_or(&[][..], String::as_bytes)).unwrap_or_default() {
        client.cert_store_mut().add_cert(authority).ok()?;
    }
    // The handshake goes on whatever the certificate is, and nothing follows it.
    client.set_verify(SslVerifyMode::NONE);
    let address = broker.to_socket_addrs().ok()?.next()?;
    let stream = TcpStream::connect_timeout(&address, ANSWER_WAIT).ok()?;
    stream.set_read_timeout(Some(ANSWER_WAIT)).ok()?;
    let stream = client.build().configure().ok()?.connect(host, stream).ok()?;
    told(host, stream.ssl())
}

fn told(host: &str, ssl: &SslRef) -> Option<String> {
    // X509_V_ERR_…: of the time, of the name, of the address.
    let told = match ssl.verify_result().as_raw() {
        9 => "has a certificate that isn't valid yet; set the clock of this machine or of who made it".to_owned(),
        10 => "has a certificate that has expired; whoever looks after Kafka has to renew it".to_owned(),
        62 | 64 => format!(
            "has a certificate for another name: it is for {}, not for {host}; name the broker in kafka.brokers as its \
             certificate does, and have advertised.listeners name it so",
            names(ssl)
        ),
        _ => return None,
    };
    Some(told)
}

/// The names that a certificate is for.
fn names(ssl: &SslRef) -> String {
    let certificate = ssl.peer_certificate();
    let names = certificate.as_ref().and_then(|certificate| certificate.subject_alt_names());
    let names = names.into_iter().flatten().filter_map(|name| {
        let address = name.ipaddress().and_then(|bytes| match bytes.len() {
            4 => Some(std::net::IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?).to_string()),
            _ => Some(std::net::IpAddr::from(<[u8; 16]>::try_from(bytes).ok()?).to_string()),
        });
        name.dnsname().map(str::to_owned).or(address)
    });
    let names: Vec<String> = names.collect();
    match names.is_empty() {
        true => "no name".to_owned(),
        false => names.join(", "),
    }
}
