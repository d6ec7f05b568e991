//! A certificate that a region makes for itself, so that HTTPS can be tried without an authority.
//!
//! Kept in the data directory, so that clients that were told to trust it still do after a restart. Never used where the
//! operator has named files.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose};

/// The certificate's files.
#[derive(Clone, Debug)]
pub struct Files {
    /// The certificate, which clients have to be told to trust.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The making.
    #[error("no certificate can be made")]
    Make(#[from] rcgen::Error),
    /// A file.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The certificate in a folder, made where there is none yet for this address.
///
/// # Errors
/// Where its files cannot be written.
pub fn keep(folder: &Path, listen: IpAddr) -> Result<Files, CertificateError> {
    let files = Files {
        certificate: folder.join("tls-cert.pem"),
        key: folder.join("tls-key.pem"),
    };
    let names = names(listen);
    // What it was made for; written last, so that it stands for the other two.
    let record = folder.join("tls-names");
    let wanted = names.join("\n");
    let kept = fs::read_to_string(&record).is_ok_and(|kept| kept == wanted);
    if kept && files.certificate.exists() && files.key.exists() {
        return Ok(files);
    }
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "adit dev");
    // Its own issuer, and nobody else's: a client that trusts it trusts this one region.
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let certificate = params.self_signed(&key)?;
    write(&files.key, &key.serialize_pem(), 0o600)?;
    write(&files.certificate, &certificate.pem(), 0o644)?;
    write(&record, &wanted, 0o644)?;
    Ok(files)
}

/// The names that a client on this machine, or one that was told the address, calls the region by.
fn names(listen: IpAddr) -> Vec<String> {
    let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let printable = |c: char| c.is_ascii_alphanumeric() || "-.".contains(c);
    if !node.is_empty() && node.chars().all(printable) && !names.contains(&node) {
        names.push(node);
    }
    let address = listen.to_canonical().to_string();
    if !listen.is_unspecified() && !names.contains(&address) {
        names.push(address);
    }
    names
}

fn write(path: &Path, text: &str, mode: u32) -> Result<(), CertificateError> {
    let failed = |source| CertificateError::Write {
        path: path.to_owned(),
        source,
    };
    // Anew, so that the mode is that of a new file.
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(e)),
        _ => {}
    }
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_kept_as_long_as_it_fits_the_address() {
        let folder = tempfile::tempdir().unwrap();
        let keep = |address: &str| {
            let files = keep(folder.path(), address.parse().unwrap()).unwrap();
            let mode = fs::metadata(&files.key).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            fs::read_to_string(files.certificate).unwrap()
        };
        let first = keep("127.0.0.1");
        assert_eq!(keep("127.0.0.1"), first);
        assert_eq!(keep("0.0.0.0"), first);
        let other = keep("192.0.2.1");
        assert_ne!(other, first);
        assert_eq!(keep("192.0.2.1"), other);
        fs::remove_file(folder.path().join("tls-key.pem")).unwrap();
        assert_ne!(keep("192.0.2.1"), other);
    }
}
