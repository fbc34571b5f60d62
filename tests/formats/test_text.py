"""The readable dump: every decision in it, the same every time, safe on a terminal."""

from dataclasses import replace

import formats
from tests.formats.programs import tiny_program

EXPECTED = """\
program tiny (fp16, swkpu-v1 1.0.0)
  source tiny.pt2 sha256:0123
  3 ops, 1,300 cycles, 1.2 uJ (estimates)
  peak L2 192 B (largest live set 192 B), peak DRAM 1,024 B, weights 232 B, activations 192 B
  preprocess imagenet
  options {layout=cost, limits={seconds=1.5}, passes=[fold, fuse]}
  quantisation {gains_db={bias correction=0.75}, held_out=40, mac_share=1.0, \
max_difference={mean=0.0033}, method=mse, op_sqnr_db={conv=38.25}, samples=100, sqnr_db={mean=44.5}}
  inputs %image, %residual; outputs %mean

   0 %features: fp16[1, 4, 4, 4] = Conv(%image, %weight, %bias) \
{group=1, kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[1, 1]}
       | Add(acc, %residual)
       | Clip {max=None, min=0.0}
       precision int8
       name layer1.0.conv
       fused batch_norm, relu
       tile L1 OC=4 OH=2; order OH OC; L2 OH=4 order OH; reduction over 2 arrays; double-buffered
       cycles 1,000  energy 1.000 uJ
       buffer %image sram_l2@0x400 192 B, copies 2
       buffer %image sram_l1@0x0 128 B, copies 1
       buffer %features sram_l1@0x80 128 B, copies 2
   1 %flat: fp16[1, 64] = Reshape(%features) {shape=[1, 64]}
       cycles 0  energy 0.000 uJ
   2 %mean: fp32[1] = ReduceMean(%flat) {axes=[1], keepdims=False}
       cycles 300  energy 0.250 uJ
       buffer %flat sram_l1@0x0 128 B, copies 1

%bias: fp32[4] NCHW dram@0x200 16 B weight name conv.bias
%features: fp16[1, 4, 4, 4] NCHW sram_l2@0x0 128 B name layer1.0.conv
%flat: fp16[1, 64] NCHW sram_l2@0x0 128 B view of %features
%image: uint8[1, 3, 4, 4] NCHW dram@0x0 48 B input scale 0.0625 zero 128 name x
%mean: fp32[1] NCHW dram@0x280 4 B output
%residual: fp16[1, 4, 1, 1] NCHW dram@0x240 8 B input name skip
%weight: int8[4, 3, 3, 3] NCHW dram@0x100 108 B weight scales %weight.scales axis 0 name conv.weight
%weight.scales: fp32[4] NCHW dram@0x180 16 B weight
"""


def test_a_dump_shows_every_decision():
    assert formats.dump(tiny_program()) == EXPECTED


def test_a_dump_is_the_same_before_and_after_a_file():
    assert formats.dump(formats.load(formats.to_bytes(tiny_program()))) == EXPECTED


def test_which_side_of_a_subtraction_the_accumulator_stands_on_is_shown():
    program = tiny_program()
    for side, shown in ((0, "Sub(acc, %residual)"), (1, "Sub(%residual, acc)")):
        stage = formats.EpilogueStage("Sub", operand=3, accumulator_side=side)
        ops = (replace(program.ops[0], epilogue=(stage,)), *program.ops[1:])
        assert shown in formats.dump(replace(program, ops=ops))


def test_a_string_of_the_file_cannot_steer_the_terminal():
    hostile = tiny_program(source_model="\x1b[2J", options={"a": "\x1b]0;x\x07"})
    assert "\x1b" not in formats.dump(hostile)
