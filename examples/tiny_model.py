"""A language model as small as can be, with random weights, to try a task on: ``python tiny_model.py FOLDER``."""

import sys

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(["<eos>", *alphabet])}, []))
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
torch.manual_seed(0)
sizes = {"vocab_size": len(alphabet) + 1, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 640}
config = AutoConfig.for_model("gpt2", **sizes, bos_token_id=0, eos_token_id=0)
AutoModelForCausalLM.from_config(config).save_pretrained(sys.argv[1])
PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>").save_pretrained(sys.argv[1])
