//! Films, through ffmpeg where it is installed: a child process with a time limit, without a shell, in a folder of its
//! own that goes with it.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use http::StatusCode;
use tempfile::TempDir;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;

use super::chain::{Conversion, Snapshot, Turn};
use crate::error::Error;
use crate::store::Content;
use crate::upload::LARGEST_UPLOAD;

const SNAPSHOT_TIME: Duration = Duration::from_secs(30);
const CONVERSION_TIME: Duration = Duration::from_secs(600);
/// The largest snapshot, in bytes.
const LARGEST_SNAPSHOT: u64 = 64 * 1024 * 1024;
/// How much of what ffmpeg complains about is logged, in bytes.
const LONGEST_COMPLAINT: usize = 1000;

/// The formats that a source may have. Others name further files or addresses to be read.
const SOURCE_FORMATS: &str = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpegts,mpeg,asf,ogg,mp3,wav,flac,aac";

/// The converter.
pub(super) struct Ffmpeg {
    program: PathBuf,
    /// Holds a folder for each film that is being worked on.
    folder: PathBuf,
    /// One at a time: ffmpeg uses every core by itself.
    turn: Semaphore,
}

/// A finished film, removed when dropped.
pub(super) struct Converted {
    folder: TempDir,
    name: String,
}

impl Converted {
    pub(super) fn path(&self) -> PathBuf {
        self.folder.path().join(&self.name)
    }
}

impl Ffmpeg {
    /// Also removes what a crash left behind. Blocks on the disk.
    pub(super) fn new(program: PathBuf, data: &Path) -> io::Result<Self> {
        let folder = data.join("films");
        if folder.try_exists()? {
            std::fs::remove_dir_all(&folder)?;
        }
        Ok(Self { program, folder, turn: Semaphore::new(1) })
    }

    pub(super) async fn is_installed(&self) -> bool {
        let mut command = Command::new(&self.program);
        command.arg("-version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        let status = tokio::time::timeout(SNAPSHOT_TIME, command.status()).await;
        matches!(status, Ok(Ok(status)) if status.success())
    }

    /// One picture of a film, as a file's content.
    pub(super) async fn snapshot(&self, content: Content, snapshot: &Snapshot) -> Result<Vec<u8>, Error> {
        if !self.is_installed().await {
            return Err(unsupported("ffmpeg, which the stand-in needs for films, is not installed"));
        }
        let _turn = self.turn.acquire().await.map_err(Error::internal)?;
        let folder = self.prepare(content).await?;
        let name = if snapshot.png { "picture.png" } else { "picture.jpg" };
        let complaint = self.run(folder.path(), &snapshot_arguments(snapshot, false, name), SNAPSHOT_TIME).await?;
        let path = folder.path().join(name);
        if complaint.is_none() && tokio::fs::metadata(&path).await.is_err() {
            // protocol: beyond the end the last picture is meant.
            self.run(folder.path(), &snapshot_arguments(snapshot, true, name), SNAPSHOT_TIME).await?;
        }
        let reading = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            std::fs::File::open(path)?.take(LARGEST_SNAPSHOT + 1).read_to_end(&mut bytes)?;
            // Only now may the folder go.
            drop(folder);
            Ok::<_, io::Error>(bytes)
        });
        match reading.await.map_err(Error::internal)? {
            Ok(bytes) if bytes.is_empty() => Err(unsupported("there is no picture in it")),
            Ok(bytes) if bytes.len() as u64 > LARGEST_SNAPSHOT => {
                Err(unsupported("the picture is larger than the stand-in makes"))
            }
            Ok(bytes) => Ok(bytes),
            Err(_) => Err(unsupported(&complaint.unwrap_or_default())),
        }
    }

    pub(super) async fn convert(&self, content: Content, conversion: &Conversion) -> Result<Converted, Error> {
        let _turn = self.turn.acquire().await.map_err(Error::internal)?;
        let folder = self.prepare(content).await?;
        let name = format!("film.{}", conversion.container);
        match self.run(folder.path(), &conversion_arguments(conversion, &name), CONVERSION_TIME).await? {
            None => Ok(Converted { folder, name }),
            Some(complaint) => Err(unsupported(&complaint)),
        }
    }

    /// A folder with the film in it: ffmpeg wants to move about in one file.
    async fn prepare(&self, mut content: Content) -> Result<TempDir, Error> {
        let folder = self.folder.clone();
        let preparing = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&folder)?;
            let folder = tempfile::tempdir_in(&folder)?;
            io::copy(&mut content, &mut std::fs::File::create(folder.path().join("source"))?)?;
            Ok::<_, io::Error>(folder)
        });
        preparing.await.map_err(Error::internal)?.map_err(Error::internal)
    }

    /// Runs ffmpeg in a folder; `None` if it is content, else what it complains about.
    async fn run(&self, folder: &Path, arguments: &[String], limit: Duration) -> Result<Option<String>, Error> {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(folder).kill_on_drop(true);
        // The environment holds the stand-in's secrets.
        command.env_clear().envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(Error::internal)?;
        match tokio::time::timeout(limit, finish(&mut child)).await {
            Ok(finished) => {
                let (status, complaint) = finished.map_err(Error::internal)?;
                if status.success() {
                    return Ok(None);
                }
                tracing::debug!(%status, complaint, "ffmpeg failed");
                Ok(Some(complaint))
            }
            Err(_) => {
                // Waits until it is gone: its folder is removed next.
                child.kill().await.map_err(Error::internal)?;
                tracing::warn!(seconds = limit.as_secs(), "ffmpeg was stopped: it took too long");
                Ok(Some(format!("it took longer than {} seconds", limit.as_secs())))
            }
        }
    }
}

impl Conversion {
    pub(super) fn content_type(&self) -> &'static str {
        match self.container.as_str() {
            "3gp" => "video/3gpp",
            "aac" => "audio/aac",
            "asf" => "video/x-ms-asf",
            "avi" => "video/x-msvideo",
            "flac" => "audio/flac",
            "flv" => "video/x-flv",
            "m4a" => "audio/mp4",
            "mkv" => "video/x-matroska",
            "mov" => "video/quicktime",
            "mp3" => "audio/mpeg",
            "oga" | "ogg" => "audio/ogg",
            "ts" => "video/mp2t",
            "wav" => "audio/wav",
            "webm" => "video/webm",
            _ => "video/mp4",
        }
    }
}

/// Reads all complaints, keeps the first, and waits for the end.
async fn finish(child: &mut Child) -> io::Result<(ExitStatus, String)> {
    let mut kept = Vec::new();
    if let Some(mut complaints) = child.stderr.take() {
        let mut piece = [0; 1024];
        loop {
            let count = complaints.read(&mut piece).await?;
            if count == 0 {
                break;
            }
            kept.extend_from_slice(
                piece.get(..count.min(LONGEST_COMPLAINT.saturating_sub(kept.len()))).unwrap_or_default(),
            );
        }
    }
    Ok((child.wait().await?, String::from_utf8_lossy(&kept).trim().to_owned()))
}

/// protocol: 400, "not supported format". Not documented: the code, and the reason is the stand-in's own.
fn unsupported(reason: &str) -> Error {
    Error::new(StatusCode::BAD_REQUEST, "BadRequest", "not supported format").detail("Reason", reason)
}

/// A program without questions that reads nothing but the file it is given.
fn common_arguments() -> Vec<String> {
    ["-nostdin", "-hide_banner", "-loglevel", "error", "-y", "-protocol_whitelist", "file", "-format_whitelist"]
        .into_iter()
        .chain([SOURCE_FORMATS])
        .map(str::to_owned)
        .collect()
}

fn snapshot_arguments(snapshot: &Snapshot, last: bool, name: &str) -> Vec<String> {
    let mut arguments = common_arguments();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
    // protocol: of films in H.264 and H.265 alone.
    add(&["-codec_whitelist", "h264,hevc"]);
    if snapshot.turn == Turn::Never {
        add(&["-noautorotate"]);
    }
    match last {
        true => add(&["-sseof", "-5"]),
        false => add(&["-ss", &seconds(snapshot.time)]),
    }
    if snapshot.fast {
        // With the times of the source: frames before the wanted time would else have negative ones, and be dropped.
        add(&["-noaccurate_seek", "-copyts"]);
    }
    add(&["-i", "file:source", "-map", "0:v:0", "-an"]);
    if !last {
        add(&["-frames:v", "1"]);
    }
    let turned = match snapshot.turn {
        Turn::Never | Turn::Auto => None,
        Turn::High => Some("transpose=clock:passthrough=portrait".to_owned()),
        Turn::Wide => Some("transpose=clock:passthrough=landscape".to_owned()),
    };
    let side = |side: u32| if side == 0 { "-1".to_owned() } else { side.to_string() };
    let scaled = (snapshot.width > 0 || snapshot.height > 0)
        .then(|| format!("scale={}:{}", side(snapshot.width), side(snapshot.height)));
    let filters: Vec<String> = turned.into_iter().chain(scaled).collect();
    if !filters.is_empty() {
        add(&["-vf", &filters.join(",")]);
    }
    // Each picture replaces the one before, so the last one stays.
    add(&["-f", "image2", "-update", "1", "-c:v", if snapshot.png { "png" } else { "mjpeg" }]);
    add(&["-q:v", "2", &format!("file:{name}")]);
    arguments
}

fn conversion_arguments(conversion: &Conversion, name: &str) -> Vec<String> {
    let mut arguments = common_arguments();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
    if let Some(start) = conversion.start {
        add(&["-ss", &seconds(start)]);
    }
    add(&["-i", "file:source"]);
    if let Some(duration) = conversion.duration {
        add(&["-t", &seconds(duration)]);
    }
    if let Some(codec) = &conversion.video_codec {
        add(&["-c:v", encoder(codec)]);
    }
    if let Some(codec) = &conversion.audio_codec {
        add(&["-c:a", encoder(codec)]);
    }
    if let Some((width, height)) = conversion.size {
        // Most encoders want even sides.
        let side = |side: Option<u32>| side.map_or_else(|| "-2".to_owned(), |side| side.to_string());
        add(&["-vf", &format!("scale={}:{}", side(width), side(height))]);
    }
    if let Some(bits) = conversion.video_bits {
        add(&["-b:v", &bits.to_string()]);
    }
    if let Some(bits) = conversion.audio_bits {
        add(&["-b:a", &bits.to_string()]);
    }
    if let Some(frames) = &conversion.frames {
        add(&["-r", frames]);
    }
    for (without, option) in
        [(conversion.no_video, "-vn"), (conversion.no_audio, "-an"), (conversion.no_subtitles, "-sn")]
    {
        if without {
            add(&[option]);
        }
    }
    add(&["-fs", &LARGEST_UPLOAD.to_string(), &format!("file:{name}")]);
    arguments
}

/// What ffmpeg calls an encoder for the codec that OSS calls so.
fn encoder(codec: &str) -> &str {
    match codec {
        "h264" => "libx264",
        "h265" => "libx265",
        "vp8" => "libvpx",
        "vp9" => "libvpx-vp9",
        "mp3" => "libmp3lame",
        "opus" => "libopus",
        "vorbis" => "libvorbis",
        "pcm" => "pcm_s16le",
        other => other,
    }
}

fn seconds(milliseconds: u32) -> String {
    format!("{}.{:03}", milliseconds / 1000, milliseconds % 1000)
}
