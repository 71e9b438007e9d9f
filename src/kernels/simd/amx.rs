//! AMX: tiles of sixteen lines of 64 bytes, and products of sixteen tokens with sixteen rows by one instruction.
//! Beside AVX-512, which does all else.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};
use std::sync::OnceLock;

/// Whether this processor has tiles for bfloat16, and the system lets this process use them.
pub(in super::super) fn is_there() -> bool {
    static IS_THERE: OnceLock<bool> = OnceLock::new();
    *IS_THERE.get_or_init(|| cfg!(target_os = "linux") && has_tiles() && are_permitted())
}

/// Bits of leaf 7 and of the states that the system saves: Intel's manual, volume 1, chapters 13 and 18.
#[expect(
    unused_unsafe,
    reason = "`__cpuid` is safe from Rust 1.94 on, and the oldest that compiles this is 1.90"
)]
fn has_tiles() -> bool {
    const BFLOATS_AND_TILES: u32 = 1 << 22 | 1 << 24;
    const STATES: u64 = 1 << 17 | 1 << 18;
    const SAVES: u32 = 1 << 27;
    // SAFETY: all processors of 64 bits have the instruction.
    let (leaves, system) = unsafe { (__cpuid(0).eax, __cpuid(1).ecx) };
    if leaves < 7 || system & SAVES == 0 {
        return false;
    }
    // SAFETY: as above, and there is such a leaf.
    let features = unsafe { __cpuid_count(7, 0).edx };
    // SAFETY: the processor has `xgetbv`, for its system saves extended states.
    features & BFLOATS_AND_TILES == BFLOATS_AND_TILES && unsafe { states() } & STATES == STATES
}

/// # Safety
/// The system saves extended states.
#[target_feature(enable = "xsave")]
unsafe fn states() -> u64 {
    // SAFETY: the caller's promise.
    unsafe { _xgetbv(0) }
}

/// Asks Linux, which makes room for a thread's tiles on request: `arch_prctl(ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA)`.
fn are_permitted() -> bool {
    let answer: isize;
    // SAFETY: the call takes two numbers, and touches no memory of ours.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") 158_isize => answer,
            in("rdi") 0x1023,
            in("rsi") 18,
            out("rcx") _,
            out("r11") _,
            options(nostack),
        );
    }
    answer == 0
}

/// What `ldtilecfg` reads.
#[repr(C, align(64))]
struct Shapes {
    palette: u8,
    start: u8,
    reserved: [u8; 14],
    bytes: [u16; 16],
    lines: [u8; 16],
}

/// All eight tiles are whole.
static WHOLE: Shapes = Shapes {
    palette: 1,
    start: 0,
    reserved: [0; 14],
    bytes: [64, 64, 64, 64, 64, 64, 64, 64, 0, 0, 0, 0, 0, 0, 0, 0],
    lines: [16, 16, 16, 16, 16, 16, 16, 16, 0, 0, 0, 0, 0, 0, 0, 0],
};

/// Makes this thread's tiles ready.
///
/// # Safety
/// [`is_there`].
pub(in super::super) unsafe fn configure() {
    // SAFETY: the caller's promise; the shapes are what the instruction takes.
    unsafe { asm!("ldtilecfg [{0}]", in(reg) &raw const WHOLE, options(nostack, preserves_flags)) };
}

/// Gives them up: the system need not keep them for this thread.
///
/// # Safety
/// [`is_there`].
pub(in super::super) unsafe fn release() {
    // SAFETY: the caller's promise.
    unsafe { asm!("tilerelease", options(nostack, preserves_flags)) };
}

/// A function that multiplies 32 tokens with 32 rows.
macro_rules! multiply {
    ($name:ident, $step:literal, $($rest:literal),*) => {
        /// Products of 32 tokens with 32 rows: `out[token][row]`, whose lines are `stride` bytes apart.
        ///
        /// # Safety
        /// After [`configure`]. Both of `weights` are valid for `count` tiles of 1024 bytes, at least one, both of `x` for as
        /// many or, with rests, twice as many, and `out` for 32 lines of 32 floats.
        #[inline]
        pub(in super::super) unsafe fn $name(
            x: [*const u32; 2],
            weights: [*const u32; 2],
            count: usize,
            out: *mut f32,
            stride: usize,
        ) {
            // SAFETY: the caller's promise. Tiles hold nothing between two calls.
            unsafe {
                asm!(
                    "tilezero tmm0",
                    "tilezero tmm1",
                    "tilezero tmm2",
                    "tilezero tmm3",
                    "2:",
                    "tileloadd tmm4, [{x0} + {line}]",
                    "tileloadd tmm6, [{w0} + {line}]",
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    "tileloadd tmm7, [{w1} + {line}]",
                    "tdpbf16ps tmm1, tmm4, tmm7",
                    "tileloadd tmm5, [{x1} + {line}]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    $($rest,)*
                    "add {x0}, {step}",
                    "add {x1}, {step}",
                    "add {w0}, 1024",
                    "add {w1}, 1024",
                    "dec {count}",
                    "jnz 2b",
                    "tilestored [{out} + {stride}], tmm0",
                    "tilestored [{out} + {stride} + 64], tmm1",
                    "tilestored [{below} + {stride}], tmm2",
                    "tilestored [{below} + {stride} + 64], tmm3",
                    x0 = inout(reg) x[0] => _,
                    x1 = inout(reg) x[1] => _,
                    w0 = inout(reg) weights[0] => _,
                    w1 = inout(reg) weights[1] => _,
                    count = inout(reg) count => _,
                    line = in(reg) 64_usize,
                    out = in(reg) out,
                    below = in(reg) out.byte_add(16 * stride),
                    stride = in(reg) stride,
                    step = const $step,
                    options(nostack),
                );
            }
        }
    };
}

multiply!(multiply, 1024,);

// Each tile of tokens is followed by the rests of its numbers.
multiply!(
    multiply_with_rests,
    2048,
    "tileloadd tmm4, [{x0} + {line} + 1024]",
    "tdpbf16ps tmm0, tmm4, tmm6",
    "tdpbf16ps tmm1, tmm4, tmm7",
    "tileloadd tmm5, [{x1} + {line} + 1024]",
    "tdpbf16ps tmm2, tmm5, tmm6",
    "tdpbf16ps tmm3, tmm5, tmm7"
);
