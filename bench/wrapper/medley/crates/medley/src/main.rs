//! Serves notes, fetches them and packs them.

use std::io::{Read, Write};

use anyhow::Context;
use axum::{extract::State, routing::get, Json, Router};
use clap::{Parser, Subcommand};
use futures::future::try_join_all;
use medley_core::Note;
use rand::Rng;
use rayon::prelude::*;

/// Notes, served and fetched.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve one note
    Serve {
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: String,
        title: String,
    },
    /// Fetch notes and print their seals
    Fetch { urls: Vec<String> },
    /// Pack standard input
    Pack {
        #[arg(long)]
        zstd: bool,
    },
}

async fn serve(listen: &str, title: &str) -> anyhow::Result<()> {
    let note = Note::new(title, &"la ".repeat(rand::thread_rng().gen_range(1..9)))?;
    let routes = Router::new()
        .route("/", get(|State(note): State<Note>| async move { Json(note) }))
        .layer(tower_http::cors::CorsLayer::permissive())
        .with_state(note);
    let listener = tokio::net::TcpListener::bind(listen).await.context("cannot listen")?;
    tracing::info!("listening at {}", listener.local_addr()?);
    Ok(axum::serve(listener, routes).await?)
}

async fn fetch(urls: &[String]) -> anyhow::Result<()> {
    let texts = try_join_all(urls.iter().map(|url| async move {
        reqwest::get(url).await?.error_for_status()?.text().await
    }))
    .await?;
    let seals: Vec<_> = texts.par_iter().map(|t| Note::from_json(t).map(|n| n.seal())).collect();
    for seal in seals {
        println!("{}", serde_json::json!({ "seal": seal? }));
    }
    Ok(())
}

fn pack(with_zstd: bool) -> anyhow::Result<()> {
    let mut data = Vec::new();
    std::io::stdin().read_to_end(&mut data)?;
    let packed = if with_zstd {
        zstd::encode_all(&data[..], 3)?
    } else {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), Default::default());
        encoder.write_all(&data)?;
        encoder.finish()?
    };
    Ok(std::io::stdout().write_all(&packed)?)
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_env_filter("info").init();
    match Options::parse().command {
        Command::Serve { listen, title } => serve(&listen, &title).await,
        Command::Fetch { urls } => fetch(&urls).await,
        Command::Pack { zstd } => pack(zstd),
    }
}
