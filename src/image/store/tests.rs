use super::*;
use crate::image::model::media;
use serde_json::json;

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let path = std::env::temp_dir().join(format!("dhow-store-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Scratch(path)
    }

    fn store(&self) -> Store {
        Store::open(&self.0).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// An image with one layer, in the store but without a name.
fn image(store: &Store, layer: &[u8]) -> Descriptor {
    let layer = store.put(media::LAYER, layer).unwrap();
    let config = json!({"os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [layer.digest]}});
    let config = store.put(media::CONFIG, config.to_string().as_bytes()).unwrap();
    let manifest = json!({"schemaVersion": 2, "mediaType": media::MANIFEST, "config": config, "layers": [layer]});
    store.put(media::MANIFEST, manifest.to_string().as_bytes()).unwrap()
}

fn begin(store: &Store, descriptor: &Descriptor) -> Ingest {
    match store.begin(descriptor).unwrap() {
        Begin::Ingest(ingest) => *ingest,
        Begin::Have(_) => panic!("it is there"),
    }
}

#[test]
fn an_image_by_its_name() {
    let scratch = Scratch::new("name");
    let store = scratch.store();
    let descriptor = image(&store, b"layer");
    store.set("docker.io/library/busybox:1", &descriptor).unwrap();
    let digest_name = format!("busybox@{}", descriptor.digest);
    for name in ["busybox:1", "docker.io/library/busybox:1", &digest_name] {
        assert_eq!(store.resolve(name).unwrap().descriptor.digest, descriptor.digest, "{name}");
    }
    let found = store.image(&descriptor, &"linux/amd64".parse().unwrap()).unwrap();
    assert_eq!((found.manifest.layers.len(), found.config.rootfs.diff_ids.len()), (1, 1));
    assert!(store.resolve("busybox:2").unwrap_err().to_string().contains("did you mean busybox:1?"));
    assert_eq!(scratch.store().only().unwrap().name, "docker.io/library/busybox:1");
}

#[test]
fn a_name_that_stands_for_it_already_is_not_written_again() {
    use std::os::unix::fs::MetadataExt;
    let scratch = Scratch::new("again");
    let store = scratch.store();
    let (one, two) = (image(&store, b"one"), image(&store, b"two"));
    let file = || fs::metadata(scratch.0.join(INDEX)).unwrap().ino();
    store.set("a", &one).unwrap();
    let before = file();
    store.set("a", &one).unwrap();
    assert_eq!(file(), before);
    store.set("a", &two).unwrap();
    store.set("b", &one).unwrap();
    let found: Vec<_> = store.entries().unwrap().into_iter().map(|e| (e.name, e.descriptor.digest)).collect();
    assert_eq!(found, [("a".to_string(), two.digest), ("b".to_string(), one.digest)]);
}

#[test]
fn a_blob_appears_whole_or_not_at_all() {
    let scratch = Scratch::new("whole");
    let store = scratch.store();
    let descriptor = Descriptor::of(media::LAYER, b"0123456789");
    let mut ingest = begin(&store, &descriptor);
    ingest.write(b"01234").unwrap();
    assert!(!store.has_blob(&descriptor.digest));
    drop(ingest);
    let mut ingest = begin(&store, &descriptor);
    assert_eq!((ingest.offset(), ingest.was_resumed()), (5, true));
    ingest.write(b"56789").unwrap();
    let mut content = String::new();
    ingest.finish().unwrap().read_to_string(&mut content).unwrap();
    assert_eq!(content, "0123456789");
    assert!(!scratch.0.join(INGEST).exists());
    assert!(matches!(store.begin(&descriptor).unwrap(), Begin::Have(_)));
}

#[test]
fn wrong_content_leaves_nothing() {
    let scratch = Scratch::new("wrong");
    let store = scratch.store();
    let descriptor = Descriptor::of(media::LAYER, b"0123456789");
    let mut ingest = begin(&store, &descriptor);
    ingest.write(b"0123456780").unwrap();
    assert!(ingest.finish().unwrap_err().to_string().contains("the content has sha256:"));
    let mut ingest = begin(&store, &descriptor);
    assert_eq!(ingest.offset(), 0);
    assert!(ingest.write(b"0123456789+").unwrap_err().to_string().contains("more of it than the 10 bytes"));
    drop(ingest);
    let mut ingest = begin(&store, &descriptor);
    ingest.write(b"0").unwrap();
    assert!(ingest.finish().unwrap_err().to_string().contains("it has 1 bytes"));
    assert!(!scratch.0.join(INGEST).exists() && !store.has_blob(&descriptor.digest));
}

#[test]
fn two_writers_of_one_blob_take_turns() {
    let scratch = Scratch::new("turns");
    let store = scratch.store();
    let descriptor = Descriptor::of(media::LAYER, b"0123456789");
    let mut first = begin(&store, &descriptor);
    std::thread::scope(|scope| {
        let second = scope.spawn(|| matches!(store.begin(&descriptor).unwrap(), Begin::Have(_)));
        first.write(b"0123456789").unwrap();
        first.finish().unwrap();
        assert!(second.join().unwrap());
    });
}

#[test]
fn pruning_keeps_what_has_a_name() {
    let scratch = Scratch::new("prune");
    let store = scratch.store();
    let kept = image(&store, b"kept");
    image(&store, b"lost");
    store.set("a", &kept).unwrap();
    store.set("b", &kept).unwrap();
    drop({
        let mut ingest = begin(&store, &Descriptor::of(media::LAYER, b"broken"));
        ingest.write(b"bro").unwrap();
        ingest
    });
    assert_eq!(store.prune().unwrap().blobs, 4);
    assert!(store.unset("a").unwrap() && !store.unset("a").unwrap());
    assert_eq!(store.prune().unwrap(), Pruned::default());
    assert!(store.verify(|_, _| {}).unwrap().faults.is_empty());
    assert!(store.size_of(&kept) > 4);
    store.unset("b").unwrap();
    assert_eq!(store.prune().unwrap().blobs, 3);
    assert_eq!(store.verify(|_, _| {}).unwrap().blobs, 0);
}

#[test]
fn pruning_waits_for_a_fetch() {
    let scratch = Scratch::new("waits");
    let store = scratch.store();
    let hold = store.hold().unwrap();
    assert_eq!(store.try_prune().unwrap(), None);
    std::thread::scope(|scope| {
        let prune = scope.spawn(|| store.prune().unwrap());
        let descriptor = image(&store, b"new");
        store.set("new", &descriptor).unwrap();
        drop(hold);
        assert_eq!(prune.join().unwrap().blobs, 0);
    });
}

#[test]
fn damage_is_found() {
    let scratch = Scratch::new("damage");
    let store = scratch.store();
    let descriptor = image(&store, b"layer");
    store.set("a", &descriptor).unwrap();
    let layer = store.blob_path(&Digest::of(b"layer"));
    fs::write(&layer, b"reyal").unwrap();
    let causes =
        |store: &Store| store.verify(|_, _| {}).unwrap().faults.into_iter().map(|f| format!("{}: {}", f.subject, f.cause)).collect::<Vec<_>>().join("\n");
    assert!(causes(&store).contains("the content has"));
    fs::remove_file(&layer).unwrap();
    assert!(causes(&store).starts_with("a: blob sha256:"));
    fs::write(store.blob_path(&descriptor.digest), b"{}").unwrap();
    assert!(store.document(&descriptor).unwrap_err().to_string().contains("its descriptor says"));
}

#[test]
fn a_cycle_of_indexes_ends() {
    let scratch = Scratch::new("cycle");
    let store = scratch.store();
    // No index can contain its own digest, but a chain can be longer than anyone's patience.
    let mut at = image(&store, b"deep");
    for _ in 0..MOST_DEPTH {
        let index = json!({"schemaVersion": 2, "mediaType": media::INDEX, "manifests": [at]});
        at = store.put(media::INDEX, index.to_string().as_bytes()).unwrap();
    }
    assert!(store.image(&at, &Platform::host()).unwrap_err().to_string().contains("nested more than"));
}

#[test]
fn other_layouts() {
    let scratch = Scratch::new("other");
    assert!(Store::existing(&scratch.0).unwrap_err().to_string().contains("no oci-layout"));
    fs::create_dir(&scratch.0).unwrap();
    fs::write(scratch.0.join("letter.txt"), "dear").unwrap();
    assert!(Store::open(&scratch.0).unwrap_err().to_string().contains("not empty: there is \"letter.txt\""));
    fs::remove_file(scratch.0.join("letter.txt")).unwrap();
    let store = scratch.store();
    fs::write(scratch.0.join(LAYOUT), "{\"imageLayoutVersion\":\"2.0.0\"}").unwrap();
    assert!(Store::existing(store.root()).unwrap_err().to_string().contains("version 2.0.0"));
}
