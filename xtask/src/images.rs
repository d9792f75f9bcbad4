//! Images by role, as deploy/images.toml names them: pulled, or built out of package registries where they can't be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::docker::{docker, has_image};
use crate::packages::install;
use crate::progress::{cache_dir, capture, root, say, target_dir};
use crate::proxies;
use crate::pull::{Pulled, pull};

const INSPECT_LIMIT: Duration = Duration::from_secs(30);
const BUILD_LIMIT: Duration = Duration::from_secs(1200);

#[derive(Deserialize)]
struct Named {
    base: Base,
    roles: BTreeMap<String, Role>,
}

#[derive(Deserialize)]
struct Base {
    official: String,
    release: String,
}

#[derive(Deserialize)]
struct Role {
    /// Missing where the product has no image on Docker's own registry: the role is always built then.
    official: Option<String>,
    build: Option<String>,
    stage: Option<String>,
    stand_in: Option<String>,
}

/// An image that is here.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Image {
    /// Name and tag.
    pub(crate) image: String,
    /// Whether it was built here, since the official one could not be pulled.
    pub(crate) built: bool,
    /// The product in a built image, where that is another one than the official image's.
    pub(crate) stand_in: Option<String>,
}

/// Where images come from, for one run.
pub(crate) struct Images {
    named: Named,
    /// Set once the registry could not be reached: no other image is tried then.
    unreachable: AtomicBool,
}

impl Images {
    /// Reads deploy/images.toml. `STREAMSYNC_IMAGES=build` skips the registry.
    pub(crate) fn read() -> Result<Self> {
        let file = root().join("deploy/images.toml");
        let text = std::fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))?;
        let named = toml::from_str(&text).with_context(|| format!("{} is not what it should be", file.display()))?;
        let unreachable = AtomicBool::new(std::env::var("STREAMSYNC_IMAGES").is_ok_and(|way| way == "build"));
        Ok(Self { named, unreachable })
    }

    /// Pulls or builds the roles, a few at a time, and writes target/images.json for the tests.
    pub(crate) fn provide(&self, roles: &[&str]) -> Result<BTreeMap<String, Image>> {
        let mut provided = BTreeMap::new();
        let mut to_build = Vec::new();
        for &name in roles {
            let role = self.named.roles.get(name).with_context(|| format!("deploy/images.toml has no role {name}"))?;
            if let Some(official) = role.official.as_deref().filter(|official| self.pull(official)) {
                provided.insert(name.to_owned(), Image { image: official.to_owned(), built: false, stand_in: None });
            } else if let Some(folder) = &role.build {
                to_build.push((name, role, folder));
            } else {
                bail!("{name}: its image can't be pulled, and there is no Dockerfile for it");
            }
        }
        if !to_build.is_empty() {
            let base = self.base()?;
            // Roles of one folder share their layers: they are built one after the other, folders beside each other.
            let mut folders: BTreeMap<&str, Vec<(&str, &Role)>> = BTreeMap::new();
            for (name, role, folder) in to_build {
                folders.entry(folder).or_default().push((name, role));
            }
            let built: Vec<Result<Vec<(String, Image)>>> = std::thread::scope(|scope| {
                let base = base.as_str();
                let threads: Vec<_> = folders
                    .iter()
                    .map(|(folder, roles)| {
                        scope.spawn(move || roles.iter().map(|(name, role)| build_role(name, role, folder, base)).collect())
                    })
                    .collect();
                threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| bail!("a build thread panicked"))).collect()
            });
            for images in built {
                provided.extend(images?);
            }
        }
        let file = target_dir().join("images.json");
        std::fs::create_dir_all(target_dir())?;
        std::fs::write(&file, serde_json::to_vec_pretty(&provided)?).with_context(|| format!("write {}", file.display()))?;
        Ok(provided)
    }

    /// Prometheus and the like: only where it can be pulled.
    pub(crate) fn official(&self, name: &str) -> Option<String> {
        self.named.roles.get(name)?.official.clone().filter(|official| self.pull(official))
    }

    /// The image of the engine, from what this machine built; the context is a folder with all that it holds.
    pub(crate) fn build_streamsync(&self, context: &Path) -> Result<String> {
        let base = self.base()?;
        build("streamsync", context, &base, None)
    }

    /// The built images' FROM.
    fn base(&self) -> Result<String> {
        let Base { official, release } = &self.named.base;
        let from = if self.pull(official) { official.clone() } else { bootstrap(release)? };
        let context = target_dir().join("images/base");
        copy_folder(&root().join("deploy/images/base"), &context)?;
        machine_settings(&context.join("machine"))?;
        build("base", &context, &from, None)
    }

    fn pull(&self, image: &str) -> bool {
        if has_image(image) {
            return true;
        }
        if self.unreachable.load(Ordering::Relaxed) {
            return false;
        }
        say(format_args!("pulling {image}"));
        match pull(image) {
            Pulled::Here => true,
            Pulled::Refused(reason) => {
                say(format_args!("{image} can't be pulled ({reason}): one is built here in its place, where that can be done"));
                false
            }
            Pulled::Unreachable(reason) => {
                say(format_args!("{image} can't be pulled ({reason}): no other is tried, images are built here instead"));
                self.unreachable.store(true, Ordering::Relaxed);
                false
            }
        }
    }
}

fn build_role(name: &str, role: &Role, folder: &str, base: &str) -> Result<(String, Image)> {
    let image = build(name, &root().join("deploy/images").join(folder), base, role.stage.as_deref())?;
    Ok((name.to_owned(), Image { image, built: true, stand_in: role.stand_in.clone() }))
}

/// Builds a folder, unless an image of the same content and base is here.
fn build(name: &str, context: &Path, base: &str, stage: Option<&str>) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(capture("docker image inspect", docker().args(["image", "inspect", "--format", "{{.Id}}", base]), INSPECT_LIMIT)?);
    hash.update(stage.unwrap_or_default());
    hash_folder(context, &mut hash)?;
    let tag = format!("streamsync-{name}:{}", short(hash));
    if has_image(&tag) {
        return Ok(tag);
    }
    say(format_args!("building {tag}"));
    let mut command = docker();
    command.args(["build", "-q", "-t", &tag, "--build-arg", &format!("BASE={base}")]);
    for (name, value) in proxies::variables() {
        // By its name alone, because a proxy's address may have a password and every user sees a command's arguments.
        command.env(name, value).args(["--build-arg", name]);
    }
    if let Some(stage) = stage {
        command.args(["--target", stage]);
    }
    capture(&format!("docker build {}", context.display()), command.arg(context), BUILD_LIMIT).with_context(|| {
        format!("the image of {name} could not be built: its steps need this machine's package registries from inside a container")
    })?;
    say(format_args!("built {tag}"));
    Ok(tag)
}

/// A Debian of our own making, where no base image can be pulled.
fn bootstrap(release: &str) -> Result<String> {
    let tag = format!("streamsync-bootstrap:{release}");
    if has_image(&tag) {
        return Ok(tag);
    }
    let archive = cache_dir()?.join(format!("debian-{release}-{}.tar", std::env::consts::ARCH));
    if !archive.exists() {
        install(&["debootstrap", "debian-archive-keyring"])?;
        let mirror = debian_mirror()?;
        let dir = tempfile::tempdir_in(cache_dir()?)?;
        let rootfs = dir.path().join("rootfs");
        say(format_args!("debootstrap {release} (a minute, once)"));
        let mut debootstrap = Command::new("debootstrap");
        debootstrap.args([
            "--variant=minbase",
            "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg",
            "--include=ca-certificates",
            release,
        ]);
        capture("debootstrap", debootstrap.arg(&rootfs).arg(&mirror), BUILD_LIMIT)?;
        let partial = dir.path().join("rootfs.tar");
        capture("tar", Command::new("tar").arg("-C").arg(&rootfs).arg("-cf").arg(&partial).arg("."), BUILD_LIMIT)?;
        std::fs::rename(&partial, &archive).with_context(|| format!("keep {}", archive.display()))?;
    }
    let mut import = docker();
    import.arg("import").arg(&archive).arg(&tag).stdin(Stdio::null());
    if let Err(error) = capture("docker import", &mut import, BUILD_LIMIT) {
        // A damaged archive would fail every later run as well.
        std::fs::remove_file(&archive)?;
        return Err(error.context("the base image could not be imported; its archive was removed, run again"));
    }
    Ok(tag)
}

/// The Debian mirror that this machine's apt uses.
fn debian_mirror() -> Result<String> {
    if let Ok(mirror) = std::env::var("STREAMSYNC_DEBIAN_MIRROR") {
        return Ok(mirror);
    }
    let mut files = vec![PathBuf::from("/etc/apt/sources.list")];
    if let Ok(folder) = std::fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(folder.flatten().map(|entry| entry.path()));
    }
    files
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .find(|word| word.starts_with("http") && word.trim_end_matches('/').ends_with("/debian"))
        .context("this machine's apt sources name no Debian mirror: set STREAMSYNC_DEBIAN_MIRROR to one's URL")
}

/// What lets a client inside a build reach what this machine reaches: certificate authorities, apt's proxies, pip's and Maven's settings.
fn machine_settings(into: &Path) -> Result<()> {
    std::fs::create_dir_all(into)?;
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let bundle = std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
    let pip = std::env::var_os("PIP_CONFIG_FILE").map(PathBuf::from);
    let sources = [
        ("ca.crt", vec![bundle, Some("/etc/ssl/certs/ca-certificates.crt".into())]),
        ("pip.conf", vec![pip, Some(home.join(".config/pip/pip.conf")), Some(home.join(".pip/pip.conf")), Some("/etc/pip.conf".into())]),
        ("maven.xml", vec![Some(home.join(".m2/settings.xml"))]),
    ];
    for (name, candidates) in sources {
        let content = candidates.into_iter().flatten().find_map(|file| std::fs::read(file).ok()).unwrap_or_default();
        std::fs::write(into.join(name), content)?;
    }
    let maven = into.join("maven.xml");
    if std::fs::read(&maven)?.is_empty() {
        std::fs::write(&maven, proxies::for_maven().unwrap_or_default())?;
    }
    std::fs::write(into.join("apt.conf"), proxies::of_apt())?;
    Ok(())
}

/// Copies a folder's files, over what is there.
pub(crate) fn copy_folder(from: &Path, into: &Path) -> Result<()> {
    std::fs::create_dir_all(into).with_context(|| format!("create {}", into.display()))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("read {}", from.display()))? {
        let path = entry?.path();
        let Some(name) = path.file_name() else { continue };
        if path.is_dir() {
            copy_folder(&path, &into.join(name))?;
        } else {
            std::fs::copy(&path, into.join(name)).with_context(|| format!("copy {}", path.display()))?;
        }
    }
    Ok(())
}

fn hash_folder(folder: &Path, hash: &mut Sha256) -> Result<()> {
    let mut entries = std::fs::read_dir(folder)
        .with_context(|| format!("read {}", folder.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<Vec<_>>>()?;
    entries.sort();
    for path in entries {
        hash.update(path.strip_prefix(folder)?.to_string_lossy().as_bytes());
        if path.is_dir() {
            hash_folder(&path, hash)?;
        } else {
            let content = std::fs::read(&path).with_context(|| format!("read {}", path.display()))?;
            hash.update(content.len().to_le_bytes());
            hash.update(content);
        }
    }
    Ok(())
}

fn short(hash: Sha256) -> String {
    hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}
