//! Whether a broker answers who comes without TLS and without a log-in. One that wants either closes the connection, and
//! librdkafka says the same of both. Kafka tells everybody which requests it knows, and a port with TLS tells nobody who has none.

use std::io::{Read as _, Write as _};

/// `ApiVersions`, version 0, behind its length: the request's number, its version, a number to know the answer by, and no client id.
const QUESTION: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0x4c, 0x65, 0x61, 0x64, 0xff, 0xff];

/// Whether any of the brokers answers; `None` where none takes a connection.
pub(super) fn answers(brokers: &str) -> Option<bool> {
    let asked = brokers.split(',').filter_map(|broker| {
        let broker = broker.trim();
        ask(broker.split_once("://").map_or(broker, |(_, address)| address))
    });
    asked.reduce(|one, other| one || other)
}

fn ask(broker: &str) -> Option<bool> {
    let mut stream = super::connect(broker)?;
    let mut head = [0; 8];
    let answered = stream.write_all(&QUESTION).and_then(|()| stream.read_exact(&mut head));
    Some(answered.is_ok() && head[4..] == QUESTION[8..12])
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// The address of a port that gives one who connects `answer`, and closes.
    fn port(answer: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = [0; QUESTION.len()];
            stream.read_exact(&mut question).unwrap();
            stream.write_all(answer).unwrap();
        }));
        address
    }

    #[test]
    fn a_broker_that_answers_is_told_from_one_that_wants_tls() {
        let kafka = || port(b"\0\0\0\x0a\x4c\x65\x61\x64\0\0\0\0\0\0");
        let (alert, silent) = (|| port(b"\x15\x03\x03\0\x02\x02\x0a"), || port(b""));
        assert_eq!(answers(&kafka()), Some(true));
        assert_eq!(answers(&alert()), Some(false));
        assert_eq!(answers(&silent()), Some(false));
        let both = format!("PLAINTEXT://{}, {}", silent(), kafka());
        assert_eq!(answers(&both), Some(true));
        assert_eq!(answers("127.0.0.1:1"), None);
    }
}
