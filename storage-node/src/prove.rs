//! Proofs of the cluster's key on connections of the control port, before any frame.

use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use toroid_common::secret::{Exchange, Key, MAGIC, NONCE_BYTES};
use toroid_common::wire::{Message, Refused};

/// How long a peer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A nonce; an error when the system has no randomness.
pub fn nonce() -> io::Result<[u8; NONCE_BYTES]> {
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(io::Error::other)?;
    Ok(nonce)
}

/// The side that connected.
pub async fn to_listener(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), key: Option<&Key>) -> io::Result<()> {
    let Some(key) = key else { return Ok(()) };
    let mut out = Vec::new();
    let exchange = Exchange::connect(key, nonce()?, &mut out);
    within_patience(exchange_all(stream, exchange, out)).await
}

/// The side that listens. A peer without the key is told so, and nothing of it is read.
pub async fn to_connector(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), key: Option<&Key>) -> io::Result<()> {
    let Some(key) = key else { return Ok(()) };
    let exchange = Exchange::listen(key, nonce()?);
    let result = within_patience(exchange_all(stream, exchange, Vec::new())).await;
    if let Err(error) = &result {
        let mut out = Vec::new();
        Message::Refused(Refused { reason: error.to_string() }).write(&mut out);
        // It may have gone already.
        let _ = stream.write_all(&out).await;
    }
    result
}

/// Waits for a peer to prove itself, or say who it is, as long as it may take.
pub async fn within_patience<T>(exchange: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(PATIENCE, exchange).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the peer has not introduced itself in time")),
    }
}

async fn exchange_all(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    mut exchange: Exchange,
    mut out: Vec<u8>,
) -> io::Result<()> {
    let mut input = Vec::new();
    loop {
        stream.write_all(&out).await?;
        out.clear();
        if exchange.is_done() {
            return Ok(());
        }
        // One that has no key is known by its first bytes: it may send less than a whole step.
        let mut piece = [0; MAGIC.len() + 2 * NONCE_BYTES];
        let room = piece.get_mut(..exchange.wants().saturating_sub(input.len())).unwrap_or_default();
        let count = stream.read(room).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        input.extend_from_slice(piece.get(..count).unwrap_or_default());
        let used = exchange.advance(&input, &mut out).map_err(io::Error::other)?;
        input.drain(..used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpStream};

    async fn meet(connector: Option<&'static str>, listener: &'static str) -> (io::Result<()>, io::Result<()>) {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let connecting = tokio::spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let key = connector.map(|text| Key::new(text.as_bytes()).unwrap());
            if key.is_none() {
                stream.write_all(&[9, 0, 0, 0, 1, 2, 3]).await.unwrap();
            }
            to_listener(&mut stream, key.as_ref()).await?;
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            if rest.is_empty() { Ok(()) } else { Err(io::Error::other("refused")) }
        });
        let (mut stream, _) = socket.accept().await.unwrap();
        let listening = to_connector(&mut stream, Some(&Key::new(listener.as_bytes()).unwrap())).await;
        drop(stream);
        (connecting.await.unwrap(), listening)
    }

    #[tokio::test]
    async fn only_who_has_the_key_comes_in() {
        let ours = "a key of the cluster";
        let (connector, listener) = meet(Some(ours), ours).await;
        assert!(connector.is_ok() && listener.is_ok());
        for other in [Some("another key, as long"), None] {
            let (connector, listener) = meet(other, ours).await;
            assert!(connector.is_err(), "{other:?}");
            let told = listener.unwrap_err();
            assert!(
                told.to_string().contains("key") || told.kind() == io::ErrorKind::UnexpectedEof,
                "{other:?}: {told}"
            );
        }
    }
}
