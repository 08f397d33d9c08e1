//! Opening a port, the same way for all three listeners.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted. Beyond it the system drops them, and each client tries again only after a
/// second: a burst of strangers would cost an honest client that long.
const BACKLOG: i32 = 1024;

/// A listener on `address`. A restart does not wait for old connections to time out.
///
/// # Errors
/// The address cannot be bound: it is taken, or not of this host.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_burst_of_connections_waits_to_be_accepted() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let began = std::time::Instant::now();
        let burst: Vec<_> = (0..600).map(|_| TcpStream::connect(address).unwrap()).collect();
        assert!(began.elapsed().as_millis() < 900, "some were dropped: {:?}", began.elapsed());
        assert!(listener.accept().is_ok() && burst.len() == 600);
        assert!(listen(address).is_err(), "the port is taken");
    }
}
