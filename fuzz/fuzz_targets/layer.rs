//! Any bytes are a layer's archive or an error: nothing panics, no name has a NUL, no sparse map leaves its file, and an
//! entry's content is never longer than the archive.
#![no_main]

use dhow::image::unpack::entry::Entry;
use dhow::image::unpack::reader::Reader;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (mut reader, mut entry, mut content) = (Reader::new(bytes), Entry::default(), 0);
    while let Ok(true) = reader.next(&mut entry) {
        assert!(!entry.path.contains(&0) && !entry.link.contains(&0));
        let stored = entry.parts.as_ref().map_or(entry.size, |parts| {
            let ends = parts.iter().map(|(offset, length)| offset + length);
            assert!(ends.clone().is_sorted() && ends.last().unwrap_or(0) <= entry.size);
            parts.iter().map(|(_, length)| length).sum()
        });
        let mut read = 0;
        while let Ok(chunk) = reader.chunk() {
            let n = chunk.len();
            if n == 0 {
                assert_eq!(read, stored);
                break;
            }
            reader.consume(n);
            read += n as u64;
        }
        content += read;
        assert!(content <= bytes.len() as u64);
    }
});
