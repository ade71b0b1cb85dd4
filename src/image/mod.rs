//! Images: from a registry to a store on disk, and what they are made of.
//!
//! `reference` names an image, `registry` fetches it, `store` keeps it as an OCI image layout, `transport` reads and
//! writes other people's layouts and archives. `model` and `platform` are the documents in between, `digest` the names
//! of all blobs. docs/image.md tells how a fetch works.

pub mod brought;
pub mod build;
pub mod bundle;
pub mod convert;
pub mod digest;
pub mod layers;
pub mod live;
pub mod model;
pub mod pipeline;
pub mod platform;
pub mod progress;
pub mod reference;
pub mod registry;
pub mod signals;
pub mod store;
pub mod transport;
pub mod unpack;

pub use digest::Digest;
pub use model::{Descriptor, Document, ImageConfig, Index, Manifest};
pub use platform::Platform;
pub use reference::Reference;
pub use store::Store;
