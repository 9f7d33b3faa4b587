//! Why a broker's certificate isn't taken. librdkafka says no more than that it could not be verified, so the broker is
//! asked for it once more.

use openssl::ssl::{SslConnector, SslMethod, SslRef, SslVerifyMode};
use openssl::x509::X509;

use crate::config;

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
    let stream = super::connect(broker)?;
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
    let names = certificate
        .as_ref()
        .and_then(|certificate| certificate.subject_alt_names());
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

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use openssl::asn1::Asn1Time;
    use openssl::ec::{EcGroup, EcKey};
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    use openssl::pkey::PKey;
    use openssl::ssl::SslAcceptor;
    use openssl::x509::X509Name;
    use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};

    use super::*;
    use crate::config::Config;

    /// What is said of a broker that shows a certificate for these names and days, which is its own authority.
    fn said(names: &[&str], days: [i64; 2], is_trusted: bool) -> Option<String> {
        let curve = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let key = PKey::from_ec_key(EcKey::generate(&curve).unwrap()).unwrap();
        let mut name = X509Name::builder().unwrap();
        name.append_entry_by_text("CN", "broker").unwrap();
        let name = name.build();
        let mut certificate = X509::builder().unwrap();
        certificate.set_version(2).unwrap();
        certificate.set_subject_name(&name).unwrap();
        certificate.set_issuer_name(&name).unwrap();
        certificate.set_pubkey(&key).unwrap();
        let [from, until] =
            days.map(|day| Asn1Time::from_unix(crate::clock::wall_millis() / 1000 + day * 86_400).unwrap());
        certificate.set_not_before(&from).unwrap();
        certificate.set_not_after(&until).unwrap();
        let mut alternatives = SubjectAlternativeName::new();
        for name in names {
            match name.parse::<std::net::IpAddr>() {
                Ok(_) => alternatives.ip(name),
                Err(_) => alternatives.dns(name),
            };
        }
        let alternatives = alternatives.build(&certificate.x509v3_context(None, None)).unwrap();
        certificate.append_extension(alternatives).unwrap();
        let authority = BasicConstraints::new().critical().ca().build().unwrap();
        certificate.append_extension(authority).unwrap();
        certificate.sign(&key, MessageDigest::sha256()).unwrap();
        let certificate = certificate.build();

        let mut server = SslAcceptor::mozilla_intermediate(SslMethod::tls_server()).unwrap();
        server.set_private_key(&key).unwrap();
        server.set_certificate(&certificate).unwrap();
        let server = server.build();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let serving = std::thread::spawn(move || drop(server.accept(listener.accept().unwrap().0)));
        let pem = String::from_utf8(certificate.to_pem().unwrap()).unwrap();
        let properties = match is_trusted {
            true => serde_json::json!({"security.protocol": "SSL", "ssl.ca.pem": pem}),
            false => serde_json::json!({"security.protocol": "SSL"}),
        };
        let config = Config::parse("test", &format!("kafka: {{properties: {properties}}}"), []).unwrap();
        let said = wrong(
            &config.kafka,
            &format!("ssl://{address}/bootstrap: certificate verify failed"),
        );
        serving.join().unwrap();
        said
    }

    #[test]
    fn a_certificate_for_another_name_or_time_is_told_apart_from_one_that_is_not_trusted() {
        let kafka = ["kafka.example.com", "10.0.0.7"];
        let other = said(&kafka, [-1, 1], true).unwrap();
        assert!(
            other.contains("it is for kafka.example.com, 10.0.0.7, not for 127.0.0.1; "),
            "{other}"
        );
        let ours = ["127.0.0.1"];
        assert!(said(&ours, [-2, -1], true).is_some_and(|said| said.contains("has expired")));
        assert!(said(&ours, [1, 2], true).is_some_and(|said| said.contains("isn't valid yet")));
        assert_eq!(said(&ours, [-1, 1], true), None);
        assert_eq!(said(&ours, [-1, 1], false), None);
    }
}
