//! Images: from a registry to a store on disk, and what they are made of.
//!
//! `reference` names an image, `registry` fetches it, `store` keeps it as an OCI image layout, `transport` reads and
//! writes other people's layouts and archives. `model` and `platform` are the documents in between, `digest` the names
//! of all blobs.
//!
//! `brought` is an image to be unpacked, `pipeline` sends its layers through `unpack`, `layers` keeps them to be shared.
//! `bundle` puts root file system and `convert`ed config together, `live` runs that, `signals` end it cleanly;
//! `watch` cleans up behind a build that was killed.
//! `ids` are those that files can be given to: without root, those of a user namespace that is entered first.
//! docs/image.md tells how a fetch and an unpacking work.

pub mod brought;
pub mod build;
pub mod bundle;
pub mod convert;
pub mod digest;
pub mod ids;
pub mod layers;
pub mod live;
pub mod model;
pub mod pipeline;
pub mod platform;
pub mod progress;
pub mod prompt;
pub mod reference;
pub mod registry;
pub mod signals;
pub mod store;
pub mod transport;
pub mod unpack;
pub mod watch;

pub use digest::Digest;
pub use model::{Descriptor, Document, ImageConfig, Index, Manifest};
pub use platform::Platform;
pub use reference::Reference;
pub use store::Store;
