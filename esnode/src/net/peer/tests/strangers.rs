//! Whoever comes to the peer port and is no member.

use super::*;

#[test]
fn nobody_is_dialled_whom_only_a_stranger_names() {
    let trap = TcpListener::bind("127.0.0.1:0").unwrap();
    trap.set_nonblocking(true).unwrap();
    let trapped = address_of(4, trap.local_addr().unwrap());
    let (one, two) = (start(of_cluster(1)), start(of_cluster(2)));
    join(&[(1, &one), (2, &two)]);
    eventually("connected", || one.transport.connected() == [2]);
    // In its own name, and in a member's.
    for node in [4, 2] {
        let mut greeting = greeting(of_cluster(node), Some(77));
        greeting.at = (trapped.1.clone(), trapped.2);
        greeting.names = vec![trapped.clone()];
        let mut stream = TcpStream::connect(one.address).unwrap();
        write_frames(&mut stream, &[greeting.encode(), greeting.encode()]).unwrap();
        std::thread::sleep(RPC * 4);
    }
    assert!(trap.accept().is_err(), "it was dialled");
    assert_eq!(one.transport.peer_stats().len(), 1);
}

#[test]
fn who_names_a_member_that_is_there_is_denied_by_it() {
    let (one, two) = (start(of_cluster(1)), start(of_cluster(2)));
    join(&[(1, &one), (2, &two)]);
    one.transport.set_bindings([(2, of_cluster(2).store)].into(), HashMap::new());
    eventually("connected", || one.transport.connected() == [2] && two.transport.connected() == [1]);
    while one.events.try_recv().is_ok() {}
    for token in [None, Some(1), Some(u128::MAX)] {
        // All that is known of node 2, its data directory too.
        let known = Hello { fresh: true, ..of_cluster(2) };
        let mut stream = bare_dialler(one.address, &greeting(known, token));
        write_messages(&mut stream, &[append(2, 1, 66, 10), append(2, 1, 66, 100_000)]);
        read_to_its_end(&mut stream);
    }
    assert!(two.transport.send(1, vec![append(2, 1, 4, 9)]));
    assert_eq!(one.messages().1[0].index, 4, "a stranger was heard");
    assert!(one.events.try_iter().all(|event| !matches!(event, PeerEvent::Hello(_))));
    for (peer, other) in [(&one, 2), (&two, 1)] {
        assert_eq!((peer.stats(other).reconnects, peer.stats(other).inbound), (0, true));
    }
}

#[test]
fn who_names_an_absent_member_is_not_heard() {
    let one = start(of_cluster(1));
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    one.transport.set_peers(vec![address_of(2, free)]).unwrap();
    one.transport.set_bindings([(2, of_cluster(2).store)].into(), HashMap::new());
    let began = Instant::now();
    let mut streams = Vec::new();
    for token in [None, Some(1)] {
        let mut stream = bare_dialler(one.address, &greeting(of_cluster(2), token));
        write_messages(&mut stream, &[append(2, 1, 66, 10)]);
        streams.push(stream);
        let mut files = TcpStream::connect(one.address).unwrap();
        files.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        write_frames(&mut files, &[greeting(of_cluster(2), token).encode_as(Kind::FilesHello)]).unwrap();
        streams.push(files);
    }
    for stream in &mut streams {
        read_to_its_end(stream);
    }
    assert!(began.elapsed() < RPC * 40, "{:?}", began.elapsed());
    assert!(one.events.try_iter().next().is_none(), "the node heard of it");
    assert!(!one.stats(2).inbound);
}

#[test]
fn many_strangers_keep_no_member_out_and_close_none() {
    let (one, two, three) = (start(hello(1)), start(hello(2)), start(hello(3)));
    join(&[(1, &one), (2, &two)]);
    eventually("connected", || one.transport.connected() == [2] && two.transport.connected() == [1]);
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let strangers = [None, Some(greeting(hello(2), Some(5)))].map(|greeting| {
        let (stop, to) = (stop.clone(), one.address);
        std::thread::spawn(move || {
            let mut held = std::collections::VecDeque::new();
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let Ok(mut stream) = TcpStream::connect(to) else { continue };
                if let Some(greeting) = &greeting {
                    let _ = write_frames(&mut stream, &[greeting.encode()]);
                }
                held.push_back(stream);
                held.truncate(500);
            }
        })
    });
    std::thread::sleep(RPC * 4);
    join(&[(1, &one), (2, &two), (3, &three)]);
    eventually("a member still gets in", || one.transport.connected() == [2, 3]);
    assert_eq!((one.stats(2).reconnects, two.stats(1).reconnects), (0, 0));
    assert!(two.transport.send(1, vec![append(2, 1, 4, 9)]));
    assert_eq!(one.messages().1[0].index, 4);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    strangers.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn strangers_bytes_close_only_their_own_connection() {
    let (one, two) = (start(hello(1)), start(hello(2)));
    join(&[(1, &one), (2, &two)]);
    eventually("connected", || one.transport.connected() == [2]);
    let mut random = fastrand::Rng::with_seed(3);
    for round in 0..200 {
        let mut stream = TcpStream::connect(one.address).unwrap();
        let mut junk: Vec<u8> = (0..random.usize(0..300)).map(|_| random.u8(..)).collect();
        if round % 2 == 0 {
            junk = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
        }
        let _ = stream.write_all(&junk);
    }
    assert!(two.transport.send(1, vec![append(2, 1, 4, 9)]));
    assert_eq!(one.messages().1[0].index, 4);
    assert_eq!(one.stats(2).reconnects, 0);
}

#[test]
fn half_open_diallers_are_closed_and_keep_nobody_out() {
    let (one, two) = (start(hello(1)), start(hello(2)));
    let began = Instant::now();
    let mut silent: Vec<TcpStream> = (0..200).map(|_| TcpStream::connect(one.address).unwrap()).collect();
    for stream in silent.iter_mut().step_by(2) {
        let _ = stream.write_all(&[50, 0, 0]);
    }
    join(&[(1, &one), (2, &two)]);
    eventually("a real peer still gets in", || one.transport.connected() == [2]);
    for stream in &mut silent {
        stream.set_read_timeout(Some(WAIT_TIMEOUT)).unwrap();
        let end = stream.read(&mut [0; 16]);
        assert!(
            matches!(end, Ok(0))
                || end.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset)
        );
    }
    assert!(began.elapsed() < RPC * 60, "{:?}", began.elapsed());
    assert_eq!(one.transport.connected(), [2]);
}
