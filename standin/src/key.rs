//! The key that signs callbacks.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest as _, Md5};
use rsa::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use rsa::{Pkcs1v15Sign, RsaPrivateKey};

use crate::StartError;

/// The size of a key that is made new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeyBits {
    /// 512 bits, the size of OSS's own key. Worthless as protection: such a key can be factored.
    #[default]
    Bits512,
    /// 2,048 bits, for verifiers that refuse the real size.
    Bits2048,
}

impl KeyBits {
    pub(crate) fn count(self) -> usize {
        match self {
            Self::Bits512 => 512,
            Self::Bits2048 => 2048,
        }
    }

    /// Where a stand-in with this data folder keeps its key of this size.
    pub fn key_file(self, data: &Path) -> PathBuf {
        data.join("keys").join(format!("callback-{}.pem", self.count()))
    }
}

/// A private key and the document that publishes its other half.
pub(crate) struct CallbackKey {
    private: RsaPrivateKey,
    public_pem: String,
}

impl CallbackKey {
    /// Reads the key in `path` (PKCS#8 PEM), or makes one there that only its owner can read.
    pub(crate) fn load_or_create(path: &Path, bits: KeyBits) -> Result<Self, StartError> {
        let fail = |cause: String| StartError::Key { path: path.to_owned(), cause };
        let private = match fs::read_to_string(path) {
            Ok(pem) => RsaPrivateKey::from_pkcs8_pem(&pem).map_err(|cause| fail(cause.to_string()))?,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
                let private = RsaPrivateKey::new(&mut rand::rngs::OsRng, bits.count())
                    .map_err(|cause| fail(cause.to_string()))?;
                let pem = private.to_pkcs8_pem(LineEnding::LF).map_err(|cause| fail(cause.to_string()))?;
                write_private(path, pem.as_bytes()).map_err(|cause| fail(cause.to_string()))?;
                private
            }
            Err(cause) => return Err(fail(cause.to_string())),
        };
        let public_pem =
            private.to_public_key().to_public_key_pem(LineEnding::LF).map_err(|cause| fail(cause.to_string()))?;
        Ok(Self { private, public_pem })
    }

    /// The public half, SPKI in PEM.
    pub(crate) fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// The value of a callback's Authorization header.
    ///
    /// protocol: Base64 of the PKCS#1 v1.5 signature over the MD5 of `url_decode(path) [?query] LF body`.
    pub(crate) fn authorization(&self, string_to_sign: &[u8]) -> Result<String, rsa::Error> {
        let signature = self.private.sign(Pkcs1v15Sign::new::<Md5>(), &Md5::digest(string_to_sign))?;
        Ok(STANDARD.encode(signature))
    }
}

/// Writes beside the path and renames, so that a crash never leaves half a key.
fn write_private(path: &Path, pem: &[u8]) -> io::Result<()> {
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        fs::create_dir_all(parent)?;
    }
    let unfinished = path.with_extension("unfinished");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = options.open(&unfinished)?;
    file.write_all(pem)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)
}
