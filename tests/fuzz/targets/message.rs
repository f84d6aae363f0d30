//! The messages between two nodes.

use bigbunny::peer::link::read_opened;
use bigbunny::peer::message::{Path, read_message, write_message};

/// One message: it is written as it was read.
pub fn peer_message(input: &[u8]) {
    let Ok(message) = read_message(input) else { return };
    for path in Path::ALL {
        assert_eq!(read_opened(path, input).is_ok(), path == message.path());
    }
    let mut again = b"before".to_vec();
    write_message(&mut again, &message).expect("what came is short enough to be sent");
    let again = again.strip_prefix(b"before").expect("it is appended");
    assert_eq!(again, input, "{message:?}");
}
