//! Classic BPF as seccomp runs it, for tests and for saying what a filter would do.

use super::Instruction;
use super::emit::op;

/// `struct seccomp_data` (linux/seccomp.h), but for the instruction pointer, which no filter of ours reads.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Data {
    pub nr: u32,
    pub arch: u32,
    pub args: [u64; 6],
}

/// Why a program is not one that the kernel would run.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// The program runs past its end, at this instruction.
    End(usize),
    /// An opcode or offset that we do not know, at this instruction.
    Unknown(usize),
}

/// What the program returns for `data`.
pub fn run(program: &[Instruction], data: &Data) -> Result<u32, Fault> {
    walk(program, data).map(|(value, _)| value)
}

/// What the program returns for `data`, and after how many instructions.
pub fn walk(program: &[Instruction], data: &Data) -> Result<(u32, usize), Fault> {
    let (mut pc, mut accumulator, mut steps) = (0usize, 0u32, 0);
    loop {
        let i = program.get(pc).ok_or(Fault::End(pc))?;
        steps += 1;
        let unknown = Fault::Unknown(pc);
        pc += 1;
        let mut jump = |holds: bool| pc += usize::from(if holds { i.jt } else { i.jf });
        match i.code {
            op::LOAD => accumulator = load(data, i.k).ok_or(unknown)?,
            op::AND => accumulator &= i.k,
            op::JUMP => pc += i.k as usize,
            op::JUMP_EQ => jump(accumulator == i.k),
            op::JUMP_GT => jump(accumulator > i.k),
            op::JUMP_GE => jump(accumulator >= i.k),
            JUMP_SET => jump(accumulator & i.k != 0),
            op::RETURN => return Ok((i.k, steps)),
            _ => return Err(unknown),
        }
    }
}

/// `BPF_JMP | BPF_JSET`: other compilers use it.
const JUMP_SET: u16 = 0x45;

fn load(data: &Data, offset: u32) -> Option<u32> {
    match offset {
        0 => Some(data.nr),
        4 => Some(data.arch),
        16..64 if offset.is_multiple_of(4) => {
            let word = (offset as usize - 16) / 4;
            Some((data.args[word / 2] >> (32 * (word % 2))) as u32)
        }
        _ => None,
    }
}
