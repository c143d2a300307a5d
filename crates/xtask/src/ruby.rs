//! Makes a WASI command of ruby.wasm's npm package.
//!
//! The package is made for JavaScript hosts: its module is a reactor, which a host initialises and then hands
//! source code to evaluate, and it imports functions that reach into JavaScript. Its Ruby needs none of them
//! until a program says `require "js"`. So this turns each of them into a trap, and adds a `_start` that does
//! what the package's own JavaScript does: initialise, pass the arguments, evaluate. What it evaluates loads the
//! script that the first argument names, as `ruby SCRIPT [ARG]...` would.

use anyhow::{Context, Result, anyhow};
use walrus::ir::{BinaryOp, LoadKind, MemArg, StoreKind};
use walrus::{
    DataKind, FunctionBuilder, FunctionId, ImportKind, InstrSeqBuilder, LocalId, MemoryId, Module,
    ValType,
};

/// What Ruby evaluates: loads the script, and ends the process as `ruby` would.
const MAIN: &str = r#"
begin
  status = 0
  $0 = ARGV.shift || abort("usage: ruby SCRIPT [ARG]...")
  load $0
rescue SystemExit => e
  status = e.status
rescue Exception => e
  $stderr.write e.full_message(highlight: false)
  status = 1
end
$stdout.flush
$stderr.flush
exit! status
"#;

/// Arguments for the interpreter itself: an empty program, so that it does not wait for one on standard input.
const OPTIONS: [&str; 4] = ["ruby\0", "-EUTF-8\0", "-e_=0\0", "--\0"];

/// How the process ends if Ruby could not even evaluate [`MAIN`]: EX_SOFTWARE.
const BROKEN: i32 = 70;

/// The module of the package as a WASI command.
pub(crate) fn command(reactor: &[u8]) -> Result<Vec<u8>> {
    let mut module = Module::from_buffer(reactor).context("cannot read Ruby's module")?;
    replace_imports(&mut module)?;
    let start = Start::new(&mut module)?.build(&mut module);
    module.exports.add("_start", start);
    module
        .exports
        .remove("_initialize")
        .context("Ruby's module has no _initialize")?;
    Ok(module.emit_wasm())
}

/// Handles of Ruby's objects are the objects' addresses; everything else of JavaScript's is a trap.
fn replace_imports(module: &mut Module) -> Result<()> {
    let imports: Vec<(FunctionId, String)> = module
        .imports
        .iter()
        .filter(|import| import.module != "wasi_snapshot_preview1")
        .filter_map(|import| match import.kind {
            ImportKind::Function(function) => Some((function, import.name.clone())),
            _ => None,
        })
        .collect();
    for (function, name) in imports {
        let is_identity = matches!(
            name.as_str(),
            "resource_new_rb-abi-value" | "resource_get_rb-abi-value"
        );
        module.replace_imported_func(function, |(body, arguments)| {
            match (is_identity, arguments.first()) {
                (true, Some(handle)) => body.local_get(*handle),
                _ => body.unreachable(),
            };
        })?;
    }
    Ok(())
}

/// What `_start` is made of.
struct Start {
    memory: MemoryId,
    initialize: FunctionId,
    allocate: FunctionId,
    init: FunctionId,
    evaluate: FunctionId,
    exit: FunctionId,
    sizes: FunctionId,
    arguments: FunctionId,
}

impl Start {
    fn new(module: &mut Module) -> Result<Start> {
        let export = |module: &Module, prefix: &str| {
            let mut exports = module.exports.iter();
            let export = exports.find(|export| {
                export.name == prefix || export.name.starts_with(&format!("{prefix}: func("))
            });
            match export.map(|export| export.item) {
                Some(walrus::ExportItem::Function(function)) => Ok(function),
                _ => Err(anyhow!(
                    "Ruby's module has no function {prefix}; is it another version?"
                )),
            }
        };
        let wasi = |module: &mut Module, name: &str, parameters: usize| {
            let function = module.imports.get_func("wasi_snapshot_preview1", name);
            function.unwrap_or_else(|_| {
                let ty = module
                    .types
                    .add(&vec![ValType::I32; parameters], &[ValType::I32]);
                module.add_import_func("wasi_snapshot_preview1", name, ty).0
            })
        };
        Ok(Start {
            memory: module
                .get_memory_id()
                .context("Ruby's module has no memory of its own")?,
            initialize: export(module, "_initialize")?,
            allocate: export(module, "cabi_realloc")?,
            init: export(module, "ruby-init")?,
            evaluate: export(module, "rb-eval-string-protect")?,
            exit: module
                .imports
                .get_func("wasi_snapshot_preview1", "proc_exit")
                .context("Ruby's module cannot exit")?,
            sizes: wasi(module, "args_sizes_get", 2),
            arguments: wasi(module, "args_get", 2),
        })
    }

    /// `_start`. Strings are (address, length) pairs in an array, as the canonical ABI has lists of strings.
    fn build(&self, module: &mut Module) -> FunctionId {
        let mut local = || module.locals.add(ValType::I32);
        let [sizes, count, pointers, text, list, slot, index, end] =
            std::array::from_fn(|_| local());
        let options: Vec<_> = OPTIONS
            .iter()
            .chain([&MAIN])
            .map(|text| {
                (
                    module.data.add(DataKind::Passive, text.as_bytes().to_vec()),
                    text.len(),
                )
            })
            .collect();
        let mut start = FunctionBuilder::new(&mut module.types, &[], &[]);
        let mut body = start.func_body();
        body.call(self.initialize);
        // The process's arguments, as WASI gives them.
        self.allocate(&mut body, 8, sizes);
        body.local_get(sizes)
            .local_get(sizes)
            .i32_const(4)
            .binop(BinaryOp::I32Add)
            .call(self.sizes)
            .drop();
        self.load(&mut body, sizes, 0).local_set(count);
        body.local_get(count)
            .i32_const(1)
            .binop(BinaryOp::I32Add)
            .i32_const(4)
            .binop(BinaryOp::I32Mul)
            .local_set(end);
        self.allocate_local(&mut body, end, pointers);
        self.load(&mut body, sizes, 4).local_set(end);
        self.allocate_local(&mut body, end, text);
        body.local_get(pointers)
            .local_get(text)
            .call(self.arguments)
            .drop();
        // One address more than there are arguments: where the last one ends.
        self.at(&mut body, pointers, count, 4);
        body.local_get(text).local_get(end).binop(BinaryOp::I32Add);
        self.store(&mut body, 0);
        // The list: the interpreter's own options, then all arguments but the first, which is our name.
        body.local_get(count)
            .i32_const(OPTIONS.len() as i32)
            .binop(BinaryOp::I32Add)
            .i32_const(8)
            .binop(BinaryOp::I32Mul);
        body.local_set(end);
        self.allocate_local(&mut body, end, list);
        body.local_get(list).local_set(slot);
        for (data, length) in &options[..OPTIONS.len()] {
            body.local_get(slot);
            self.allocate(&mut body, *length as i32, end);
            body.local_get(end);
            self.store(&mut body, 0);
            body.local_get(end)
                .i32_const(0)
                .i32_const(*length as i32)
                .memory_init(self.memory, *data);
            body.local_get(slot).i32_const(*length as i32);
            self.store(&mut body, 4);
            body.local_get(slot)
                .i32_const(8)
                .binop(BinaryOp::I32Add)
                .local_set(slot);
        }
        body.i32_const(1).local_set(index);
        body.block(None, |done| {
            let done_id = done.id();
            done.loop_(None, |each| {
                let each_id = each.id();
                each.local_get(index)
                    .local_get(count)
                    .binop(BinaryOp::I32GeU)
                    .br_if(done_id);
                // Each argument ends where the next begins, the zero byte with it.
                self.at(each, pointers, index, 4);
                each.local_set(end);
                each.local_get(slot);
                self.load(each, end, 0);
                self.store(each, 0);
                each.local_get(slot);
                self.load(each, end, 4);
                self.load(each, end, 0).binop(BinaryOp::I32Sub);
                self.store(each, 4);
                each.local_get(slot)
                    .i32_const(8)
                    .binop(BinaryOp::I32Add)
                    .local_set(slot);
                each.local_get(index)
                    .i32_const(1)
                    .binop(BinaryOp::I32Add)
                    .local_set(index);
                each.br(each_id);
            });
        });
        body.local_get(list);
        body.local_get(slot)
            .local_get(list)
            .binop(BinaryOp::I32Sub)
            .i32_const(8)
            .binop(BinaryOp::I32DivU);
        body.call(self.init);
        // The program, which ends the process itself.
        let (main, length) = options[OPTIONS.len()];
        self.allocate(&mut body, length as i32, text);
        body.local_get(text)
            .i32_const(0)
            .i32_const(length as i32)
            .memory_init(self.memory, main);
        body.local_get(text)
            .i32_const(length as i32)
            .call(self.evaluate)
            .drop();
        body.i32_const(BROKEN).call(self.exit);
        start.finish(vec![], &mut module.funcs)
    }

    /// Puts the address of `size` new bytes into `target`.
    fn allocate(&self, body: &mut InstrSeqBuilder<'_>, size: i32, target: LocalId) {
        body.i32_const(0)
            .i32_const(0)
            .i32_const(4)
            .i32_const(size)
            .call(self.allocate)
            .local_set(target);
    }

    fn allocate_local(&self, body: &mut InstrSeqBuilder<'_>, size: LocalId, target: LocalId) {
        body.i32_const(0)
            .i32_const(0)
            .i32_const(4)
            .local_get(size)
            .call(self.allocate)
            .local_set(target);
    }

    /// Leaves the address of element `index` of an array on the stack.
    fn at(&self, body: &mut InstrSeqBuilder<'_>, array: LocalId, index: LocalId, size: i32) {
        body.local_get(array)
            .local_get(index)
            .i32_const(size)
            .binop(BinaryOp::I32Mul)
            .binop(BinaryOp::I32Add);
    }

    /// Leaves the word at `address` on the stack.
    fn load<'a, 'b>(
        &self,
        body: &'a mut InstrSeqBuilder<'b>,
        address: LocalId,
        offset: u64,
    ) -> &'a mut InstrSeqBuilder<'b> {
        body.local_get(address).load(
            self.memory,
            LoadKind::I32 { atomic: false },
            MemArg { align: 4, offset },
        )
    }

    /// Stores the word on the stack at the address below it.
    fn store(&self, body: &mut InstrSeqBuilder<'_>, offset: u64) {
        body.store(
            self.memory,
            StoreKind::I32 { atomic: false },
            MemArg { align: 4, offset },
        );
    }
}
