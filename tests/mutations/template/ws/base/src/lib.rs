//! Sources, included files, environment and cfg of many kinds.
#![allow(unexpected_cfgs)]

#[path = "odd place.rs"]
mod elsewhere;
mod linked;
mod nested;
mod shadowed;

pub fn split(path: &str) -> String {
    format!("{:?}", path.split('/').collect::<Vec<_>>())
}

#[track_caller]
pub fn here() -> String {
    let at = std::panic::Location::caller();
    format!("{}:{}:{}", at.file(), at.line(), at.column())
}

#[inline(never)]
pub fn explode(why: &str) -> ! {
    panic!("base explodes: {why}")
}

/// Overflows: what comes of that is the profile's choice.
pub fn overflow(x: u8) -> u8 {
    std::hint::black_box(x) + 200
}

fn environment(out: &mut Vec<String>) {
    out.push(format!("base.plain_env={:?}", option_env!("PLAIN_ENV")));
    out.push(format!("base.config_env={:?}", option_env!("CONFIG_ENV")));
    out.push(format!("base.config_path={:?}", option_env!("CONFIG_PATH").map(split)));
    out.push(format!("base.manifest_dir={}", split(env!("CARGO_MANIFEST_DIR"))));
    out.push(format!("base.version={}", env!("CARGO_PKG_VERSION")));
    out.push(format!("base.minor={}", env!("CARGO_PKG_VERSION_MINOR")));
    out.push(format!("base.description={}", env!("CARGO_PKG_DESCRIPTION")));
    out.push(format!("base.authors={}", env!("CARGO_PKG_AUTHORS")));
    out.push(format!("base.homepage={}", env!("CARGO_PKG_HOMEPAGE")));
    out.push(format!("base.license={:?}", option_env!("CARGO_PKG_LICENSE")));
    out.push(format!("base.profile={:?}", option_env!("PROFILE")));
}

fn configuration(out: &mut Vec<String>) {
    out.push(format!("base.debug_assertions={}", cfg!(debug_assertions)));
    out.push(format!("base.loud={}", cfg!(feature = "loud")));
    out.push(format!("base.usual={}", cfg!(feature = "usual")));
    out.push(format!("base.from_config={}", cfg!(from_config)));
    out.push(format!("base.from_flags={}", cfg!(from_flags)));
    out.push(format!("base.panic_abort={}", cfg!(panic = "abort")));
    out.push(format!("base.avx2={}", cfg!(target_feature = "avx2")));
    out.push(format!("base.crt_static={}", cfg!(target_feature = "crt-static")));
    out.push(format!("base.test={}", cfg!(test)));
    // closures capture disjoint fields since edition 2021: the size tells
    let pair = (String::new(), 1u8);
    let closure = move || pair.0.len();
    out.push(format!("base.edition_size={}", std::mem::size_of_val(&closure)));
    let into: Box<dyn Fn() -> usize> = Box::new(move || [1u8; 3].len());
    out.push(format!("base.boxed={}", into()));
}

pub fn report() -> Vec<String> {
    let mut out = beside::report();
    environment(&mut out);
    configuration(&mut out);
    out.push(format!("base.inside={}", include_str!("../data/inside.txt").trim()));
    out.push(format!("base.outside={}", include_str!("../../assets/outside.txt").trim()));
    out.push(format!("base.bytes={:?}", include_bytes!("../data/bytes.bin")));
    out.push(format!("base.nested={}", nested::deep::value()));
    out.push(format!("base.elsewhere={}", elsewhere::VALUE));
    out.push(format!("base.linked={}", linked::VALUE));
    out.push(format!("base.shadowed={}", shadowed::VALUE));
    out.push(format!("base.leaf={} {}", leaf::LEAF, leaf::inlined(1)));
    out.push(format!("base.generic={}", leaf::generic(Some(1u8))));
    out.push(format!("base.macro={}", leaf::leaf_macro!()));
    out.push(format!("base.here={}", here()));
    out.push(format!("base.module={}", module_path!()));
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn reports() {
        println!("{}", super::report().join("\n"));
    }
}
