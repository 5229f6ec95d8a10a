//! Code and environment that the build script made.

include!(concat!(env!("OUT_DIR"), "/generated.rs"));

pub fn report() -> Vec<String> {
    vec![
        format!("gen.table={TABLE}"),
        format!("gen.schema={SCHEMA}"),
        format!("gen.words={}", include_str!(concat!(env!("OUT_DIR"), "/more/words.txt"))),
        format!("gen.level={}", env!("GEN_LEVEL_SEEN")),
        format!("gen.opt_level={}", env!("GEN_OPT_LEVEL")),
        format!("gen.quiet={}", env!("GEN_QUIET_SEEN")),
        format!("gen.high={}", cfg!(gen_high)),
        format!("gen.place={}", place()),
    ]
}
