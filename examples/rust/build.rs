// Compiles the contract, with a compiler that is a crate: no protoc has to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let contract = "../../proto";
    let files = ["blocks/handler/v1/handler.proto", "controller.proto"];
    let descriptors = protox::compile(files, [contract, "proto"])?;
    tonic_prost_build::configure().build_client(false).compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed={contract}/blocks/handler/v1");
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
