//! Notes: what they are, and how they are written down.

use base64::Engine;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What can be wrong with a note.
#[derive(Debug, thiserror::Error)]
pub enum NoteError {
    #[error("a title must be one word, and is {0:?}")]
    Title(String),
    #[error("not a note: {0}")]
    Json(#[from] serde_json::Error),
    #[error("not settings: {0}")]
    Toml(#[from] toml::de::Error),
}

/// A note and when it was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Note {
    pub id: uuid::Uuid,
    pub title: String,
    pub text: String,
    pub made: chrono::DateTime<chrono::Utc>,
}

/// What a user can set.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    pub level: u32,
    pub titles: Vec<String>,
}

impl Note {
    /// A new note.
    pub fn new(title: &str, text: &str) -> Result<Self, NoteError> {
        let word = regex::Regex::new(r"^\w+$").expect("a valid pattern");
        if !word.is_match(title) {
            return Err(NoteError::Title(title.to_owned()));
        }
        Ok(Self {
            id: uuid::Uuid::new_v4(),
            title: title.to_owned(),
            text: text.to_owned(),
            made: chrono::Utc::now(),
        })
    }

    /// Its JSON.
    pub fn to_json(&self) -> Result<String, NoteError> {
        Ok(serde_json::to_string(self)?)
    }

    /// A note from its JSON.
    pub fn from_json(text: &str) -> Result<Self, NoteError> {
        Ok(serde_json::from_str(text)?)
    }

    /// Two checksums of the text.
    pub fn seal(&self) -> String {
        let hash = Sha256::digest(self.text.as_bytes());
        let sum = medley_sum::sum(self.text.as_bytes());
        format!("{}-{sum:08x}", base64::engine::general_purpose::STANDARD_NO_PAD.encode(hash))
    }
}

/// Settings from TOML.
pub fn settings(text: &str) -> Result<Settings, NoteError> {
    Ok(toml::from_str(text)?)
}
