//! What the fuzzers call (`fuzz/`), each with any bytes at all: it panics where something does not hold that must. The
//! tests call the same with every file of the fuzzers' corpora.

use crate::accept::proxy_protocol::{self, Said};
use crate::accept::{ProxyVersion, readers};
use crate::chunked::{Chunks, Piece};
use crate::config::{Entities, GatewayConfig};
use crate::plan::certificates_in;
use bytes::BytesMut;

/// Requests of one connection: the guard judges them the same in any pieces, and what it lets through all readers read
/// alike, with one authority and a path of one form.
pub fn requests(bytes: &[u8]) {
    readers::check(bytes);
}

/// A chunked body: it has the same data and the same end in any pieces.
pub fn chunks(bytes: &[u8]) {
    let whole = chunked(bytes, bytes.len().max(1));
    for piece_bytes in [1, 2, 7] {
        assert_eq!(chunked(bytes, piece_bytes), whole, "{}", bytes.escape_ascii());
    }
}

/// Data, trailers and what is left behind the end, of a body that comes in pieces; the data so far, if it breaks off or
/// is refused.
type Read = (Vec<u8>, Option<(usize, usize)>);

fn chunked(bytes: &[u8], piece_bytes: usize) -> Read {
    let (mut chunks, mut from, mut data, mut trailers) = (Chunks::Size, BytesMut::new(), Vec::new(), 0);
    let mut pieces = bytes.chunks(piece_bytes);
    let mut read = 0;
    loop {
        match chunks.read(&mut from) {
            Piece::Data(piece) => data.extend_from_slice(&piece),
            Piece::Trailers(map) => trailers = map.len(),
            Piece::End => return (data, Some((trailers, read - from.len()))),
            Piece::Refused => return (data, None),
            Piece::More => match pieces.next() {
                Some(piece) => {
                    read += piece.len();
                    from.extend_from_slice(piece);
                }
                None => return (data, None),
            },
        }
    }
}

/// Most bytes of a header of the PROXY protocol.
const BALANCER_BYTES_MAX: usize = 536;

/// The header of a load balancer: it is the same in any pieces, stays within its bound, and what it says can be said again.
pub fn balancer(bytes: &[u8]) {
    let whole = proxy_protocol::read(bytes, BALANCER_BYTES_MAX);
    let pieces = (0..=bytes.len().min(2 * BALANCER_BYTES_MAX)).map(|end| &bytes[..end]);
    let judged =
        pieces.map(|piece| proxy_protocol::read(piece, BALANCER_BYTES_MAX)).find(|one| *one != Ok(None));
    assert_eq!(judged.unwrap_or(Ok(None)), whole, "{}", bytes.escape_ascii());
    let Ok(Some((said, length))) = whole else { return };
    assert!(length <= bytes.len().min(BALANCER_BYTES_MAX) && proxy_protocol::may_begin(bytes));
    let Said::Proxied { from, to } = said else { return };
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let mut again = Vec::new();
        proxy_protocol::write(version, Some((from, to)), &mut again);
        let read = proxy_protocol::read(&again, BALANCER_BYTES_MAX);
        let Ok(Some((Said::Proxied { from: one, to: other }, _))) = read else { panic!("{read:?}") };
        for (said, again) in [(from, one), (to, other)] {
            assert_eq!((said.ip().to_canonical(), said.port()), (again.ip().to_canonical(), again.port()));
        }
    }
}

/// A service's response head: what is taken of it has one framing, and nothing between neighbours goes on.
pub fn response(bytes: &[u8]) {
    crate::forward::check_response(bytes);
}

/// Certificates in PEM, as a file or a configuration brings them: read or refused.
pub fn certificates(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        certificates_in(text);
    }
}

/// Entities as JSON: checked with every problem named, or a plan.
pub fn entities(bytes: &[u8]) {
    let Ok(entities) = serde_json::from_slice::<Entities>(bytes) else { return };
    if let Err(problems) = crate::validate(&GatewayConfig::default(), &entities) {
        assert!(!problems.is_empty() && problems.iter().all(|problem| !problem.path.is_empty()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs every file of a corpus.
    fn replay(name: &str, run: fn(&[u8])) {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
        let mut files = 0;
        for file in std::fs::read_dir(&folder).unwrap() {
            run(&std::fs::read(file.unwrap().path()).unwrap());
            files += 1;
        }
        assert!(files > 20, "{files} files in {}", folder.display());
    }

    #[test]
    fn the_corpora_hold() {
        replay("requests", requests);
        replay("chunks", chunks);
        replay("balancer", balancer);
        replay("response", response);
        replay("certificates", certificates);
        replay("entities", entities);
    }
}
