//! What the disk and the loopback device can do without us: nothing that is measured beside it can be faster.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::spread::Spread;

/// Prints the three floors.
pub fn measure(share: usize) -> Result<()> {
    println!("floor: fdatasync of 4 KiB, overwriting   {}", Spread::of(fdatasyncs(2000 / share)?));
    println!("floor: round trip on loopback            {}", Spread::of(round_trips(10_000 / share)?));
    println!("floor: sequential write, synced          {:.0} MB/s", sequential_write(1024 / share)?);
    Ok(())
}

fn fdatasyncs(count: usize) -> Result<Vec<Duration>> {
    const BLOCK: [u8; 4096] = [1; 4096];
    let dir = tempfile::tempdir()?;
    let mut file = File::create(dir.path().join("floor"))?;
    file.write_all(&vec![0; BLOCK.len() * count])?;
    file.sync_all()?;
    let sync = |block: usize| {
        file.write_all_at(&BLOCK, (block * BLOCK.len()) as u64)?;
        let started = Instant::now();
        file.sync_data()?;
        Ok(started.elapsed())
    };
    (0..count).map(sync).collect()
}

fn round_trips(count: usize) -> Result<Vec<Duration>> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut near = TcpStream::connect(listener.local_addr()?)?;
    let (mut far, _) = listener.accept()?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let echo = std::thread::spawn(move || {
        let mut buffer = [0; 1024];
        while far.read_exact(&mut buffer).is_ok() && far.write_all(&buffer).is_ok() {}
    });
    let mut buffer = [0; 1024];
    let trip = |_| {
        let started = Instant::now();
        near.write_all(&buffer)?;
        near.read_exact(&mut buffer)?;
        Ok(started.elapsed())
    };
    let trips = (0..count).map(trip).collect();
    drop(near);
    let _ = echo.join();
    trips
}

/// In MB/s, with one sync at the end.
pub fn sequential_write(mebibytes: usize) -> Result<f64> {
    let dir = tempfile::tempdir()?;
    let mut file = File::create(dir.path().join("floor"))?;
    let block = vec![1; 1 << 20];
    let started = Instant::now();
    for _ in 0..mebibytes {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    Ok(mebibytes as f64 * 1.048_576 / started.elapsed().as_secs_f64())
}
