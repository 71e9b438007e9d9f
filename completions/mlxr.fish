# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_mlxr_global_optspecs
    string join \n q/quiet v/verbose h/help V/version
end

function __fish_mlxr_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_mlxr_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_mlxr_using_subcommand
    set -l cmd (__fish_mlxr_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c mlxr -n "__fish_mlxr_needs_command" -s q -l quiet -d 'Print nothing on stderr but errors'
complete -c mlxr -n "__fish_mlxr_needs_command" -s v -l verbose -d 'Say which model, device and library are used, and how long things took'
complete -c mlxr -n "__fish_mlxr_needs_command" -s h -l help -d 'Print help'
complete -c mlxr -n "__fish_mlxr_needs_command" -s V -l version -d 'Print version'
complete -c mlxr -n "__fish_mlxr_needs_command" -f -a "run" -d 'Answer a prompt, a file of prompts, or chat'
complete -c mlxr -n "__fish_mlxr_needs_command" -f -a "serve" -d 'Serve models over HTTP: OpenAI\'s, Anthropic\'s and Ollama\'s interfaces'
complete -c mlxr -n "__fish_mlxr_needs_command" -f -a "runner" -d 'Answer requests on standard input: what `serve` starts for each model'
complete -c mlxr -n "__fish_mlxr_needs_command" -f -a "tokenize" -d 'Turn text into tokens and back, count them, compare tokenizers'
complete -c mlxr -n "__fish_mlxr_needs_command" -f -a "quantize" -d 'Make a model smaller: fewer bits for each weight'
complete -c mlxr -n "__fish_mlxr_needs_command" -f -a "bench" -d 'Measure how fast a model computes'
complete -c mlxr -n "__fish_mlxr_needs_command" -f -a "cache" -d 'Look into what is kept of models and prompts, add to it and remove it'
complete -c mlxr -n "__fish_mlxr_needs_command" -f -a "doctor" -d 'Tell what there is to compute with, and what is amiss'
complete -c mlxr -n "__fish_mlxr_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -s m -l model -d 'Folder or `org/name[@revision]` of the hub [env: `MLXR_MODEL`] [default: the built-in model]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -l device -d 'Where to compute; `auto` is the GPU where there is one' -r -f -a "auto\t''
cpu\t''
gpu\t''"
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -l threads -d 'Threads that compute on the CPU [default: one for each core]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -s c -l ctx -d 'Tokens of prompt and answer together [default: what the model allows]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -l cache -d 'Keep what is computed of prompts in a folder, for later ones that begin alike [default DIR: mlxr in `XDG_CACHE_HOME` or ~/.cache]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -l cache-size -d 'What the folder may hold: the prompts used longest ago go' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -l memory -d 'Memory for everything, weights, sequences and kept prompts, as `12GiB`; what a GPU has no room for goes to the host\'s memory, as much again at most [default: three quarters of what the device has, or what it can give now]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -s s -l system -d 'System message' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -l prefill -d 'Begin the answer with TEXT (it is not printed again)' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -l think -d 'Let the model think, or not [default: the model\'s]' -r -f -a "on\t''
off\t''
low\t''
medium\t''
high\t''"
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -l template-arg -d 'Variable for the chat template; VALUE is JSON or else text (repeatable)' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -s n -l max-tokens -d 'Tokens to produce at most [default: to the end of the context]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -l stop -d 'Text that ends the answer; it is not printed (repeatable)' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -l schema -d 'Answer with JSON that this JSON schema describes: a file, or the schema itself' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -l choices -d 'Answer with one of these texts, separated by commas' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -s t -l temp -d '0 always takes the likeliest token [default: 0.8]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -l top-k -d 'Choose among the K likeliest tokens; 0 is all [default: 40]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -l top-p -d 'Choose among the likeliest tokens that together have this probability [default: 0.9]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -l min-p -d 'Drop tokens less likely than this share of the likeliest [default: 0]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -l repeat-penalty -d 'Divide the logits of tokens seen before; 1 is off [default: 1]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -l repeat-last-n -d 'Tokens that the three penalties look back at; 0 is none, -1 all [default: 64]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -l presence-penalty -d 'Subtract from the logits of tokens seen before [default: 0]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -l frequency-penalty -d 'Subtract from the logits of tokens once for each time seen before [default: 0]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -l seed -d 'Same seed, same text [default: a fresh one]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -l stats -d 'Print counts and times on stderr' -r -f -a "text\t''
json\t''"
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -l cpu-exact -d 'Compute and keep float32 on the CPU, instead of rounding to 8 bits beside packed weights'
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -l raw -d 'Send the prompt as it is, without chat template, and print all that the model produces'
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -l json -d 'Print one JSON object when the answer is complete'
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -l jsonl -d 'Print one JSON object per line: the events of an answer, or the results of many requests'
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -s q -l quiet -d 'Print nothing on stderr but errors'
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -s v -l verbose -d 'Say which model, device and library are used, and how long things took'
complete -c mlxr -n "__fish_mlxr_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mlxr -n "__fish_mlxr_using_subcommand serve" -s m -l model -d 'Folder or `org/name[@revision]` of the hub (repeatable) [env: `MLXR_MODEL`] [default: all in the cache]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand serve" -l device -d 'Where to compute; `auto` is the GPU where there is one' -r -f -a "auto\t''
cpu\t''
gpu\t''"
complete -c mlxr -n "__fish_mlxr_using_subcommand serve" -l threads -d 'Threads that compute on the CPU [default: one for each core]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand serve" -l cache -d 'Keep what is computed of prompts in a folder, for later ones that begin alike [default DIR: mlxr in `XDG_CACHE_HOME` or ~/.cache]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand serve" -l cache-size -d 'What the folder may hold: the prompts used longest ago go' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand serve" -l memory -d 'Memory for everything, weights, sequences and kept prompts, as `12GiB`; what a GPU has no room for goes to the host\'s memory, as much again at most [default: three quarters of what the device has, or what it can give now]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand serve" -l loaded -d 'Models that may be loaded at a time; what their weights leave of --memory is divided [default: as many as are named]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand serve" -l keep-alive -d 'How long a model stays loaded that nobody uses, as `30m`; `0` or `forever`' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand serve" -l host -d 'Address to listen on' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand serve" -s p -l port -d 'Port to listen on; 0 takes a free one' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand serve" -l api-key -d 'Answer only those who know this key (repeatable) [env: `MLXR_API_KEY`]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand serve" -l cors -d 'Let pages of this origin ask, as `https://example.com`; `*` is all (repeatable)' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand serve" -l queue -d 'Requests that are answered or wait at a time; further ones are sent away' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand serve" -l max-body -d 'How large the body of a request may be' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand serve" -l cpu-exact -d 'Compute and keep float32 on the CPU, instead of rounding to 8 bits beside packed weights'
complete -c mlxr -n "__fish_mlxr_using_subcommand serve" -l lenient -d 'Leave out what a request asks and is not supported, and say so in a header, instead of refusing it'
complete -c mlxr -n "__fish_mlxr_using_subcommand serve" -s q -l quiet -d 'Print nothing on stderr but errors'
complete -c mlxr -n "__fish_mlxr_using_subcommand serve" -s v -l verbose -d 'Say which model, device and library are used, and how long things took'
complete -c mlxr -n "__fish_mlxr_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mlxr -n "__fish_mlxr_using_subcommand runner" -s m -l model -d 'Folder or `org/name[@revision]` of the hub [env: `MLXR_MODEL`] [default: the built-in model]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand runner" -l device -d 'Where to compute; `auto` is the GPU where there is one' -r -f -a "auto\t''
cpu\t''
gpu\t''"
complete -c mlxr -n "__fish_mlxr_using_subcommand runner" -l threads -d 'Threads that compute on the CPU [default: one for each core]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand runner" -l cache -d 'Keep what is computed of prompts in a folder, for later ones that begin alike [default DIR: mlxr in `XDG_CACHE_HOME` or ~/.cache]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand runner" -l cache-size -d 'What the folder may hold: the prompts used longest ago go' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand runner" -l memory -d 'Memory for everything, weights, sequences and kept prompts, as `12GiB`; what a GPU has no room for goes to the host\'s memory, as much again at most [default: three quarters of what the device has, or what it can give now]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand runner" -l taken -d 'Bytes that other models may take of the same memory' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand runner" -l coming -d 'Models that are to share what is left' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand runner" -l cpu-exact -d 'Compute and keep float32 on the CPU, instead of rounding to 8 bits beside packed weights'
complete -c mlxr -n "__fish_mlxr_using_subcommand runner" -s q -l quiet -d 'Print nothing on stderr but errors'
complete -c mlxr -n "__fish_mlxr_using_subcommand runner" -s v -l verbose -d 'Say which model, device and library are used, and how long things took'
complete -c mlxr -n "__fish_mlxr_using_subcommand runner" -s h -l help -d 'Print help'
complete -c mlxr -n "__fish_mlxr_using_subcommand tokenize" -s f -l file -d 'Read a file (repeatable)' -r -F
complete -c mlxr -n "__fish_mlxr_using_subcommand tokenize" -s m -l model -d 'Folder or `org/name[@revision]` of the hub, of which no weights are fetched [env: `MLXR_MODEL`] [default: the built-in model]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand tokenize" -l special -d 'Whether text may spell special tokens, and decoding shows them' -r -f -a "on\t''
off\t''"
complete -c mlxr -n "__fish_mlxr_using_subcommand tokenize" -l engine -d 'Who does the work: ours where it knows the vocabulary, or the library that is the reference' -r -f -a "auto\t''
reference\t''"
complete -c mlxr -n "__fish_mlxr_using_subcommand tokenize" -l diff -d 'Print where another tokenizer cuts the text otherwise; the exit code is 1 if it does' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand tokenize" -l split -d 'Print parts of the text of at most so many tokens, each as a line of JSON' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand tokenize" -l overlap -d 'Tokens that a part has in common with the one before it' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand tokenize" -l jsonl -d 'Each line of the input is a text, in JSON'
complete -c mlxr -n "__fish_mlxr_using_subcommand tokenize" -l bos -d 'Begin with the tokens that the model\'s files put before a text'
complete -c mlxr -n "__fish_mlxr_using_subcommand tokenize" -l ids -d 'Print ids alone, a line for each text'
complete -c mlxr -n "__fish_mlxr_using_subcommand tokenize" -l count -d 'Print how many tokens there are'
complete -c mlxr -n "__fish_mlxr_using_subcommand tokenize" -l pieces -d 'Print the tokens\' texts alone, as JSON strings'
complete -c mlxr -n "__fish_mlxr_using_subcommand tokenize" -l offsets -d 'Print for each token which bytes of the text it comes from, its id and its text'
complete -c mlxr -n "__fish_mlxr_using_subcommand tokenize" -l json -d 'Print one JSON object for each text'
complete -c mlxr -n "__fish_mlxr_using_subcommand tokenize" -l decode -d 'The input is ids, and what is printed is their text'
complete -c mlxr -n "__fish_mlxr_using_subcommand tokenize" -l chat -d 'The input is messages in JSON, alone or in an object with `messages` and `tools`: print the tokens of each'
complete -c mlxr -n "__fish_mlxr_using_subcommand tokenize" -l verify -d 'Compare our ids with the reference\'s; the exit code is 1 where they differ'
complete -c mlxr -n "__fish_mlxr_using_subcommand tokenize" -s q -l quiet -d 'Print nothing on stderr but errors'
complete -c mlxr -n "__fish_mlxr_using_subcommand tokenize" -s v -l verbose -d 'Say which model, device and library are used, and how long things took'
complete -c mlxr -n "__fish_mlxr_using_subcommand tokenize" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mlxr -n "__fish_mlxr_using_subcommand quantize" -s o -l output -d 'Folder that is written' -r -F
complete -c mlxr -n "__fish_mlxr_using_subcommand quantize" -l mode -d 'How weights are packed: integers, or floats of 4 or 8 bits [default: affine]' -r -f -a "affine\t''
mxfp4\t''
nvfp4\t''
mxfp8\t''"
complete -c mlxr -n "__fish_mlxr_using_subcommand quantize" -s b -l bits -d 'Bits of a weight: 2, 3, 4, 5, 6 or 8 [default: 4, of mxfp8 8]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand quantize" -s g -l group -d 'Weights that share a scale: 32, 64 or 128 [default: 64, of mxfp4 and mxfp8 32, of nvfp4 16]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand quantize" -l recipe -d 'The mix [default: default]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand quantize" -l target-bpw -d 'Search the mix of bits that loses least with X bits for each weight, scales and biases included; each role is measured in each third of the layers, on the text of --report' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand quantize" -l embed -d 'For embeddings, also where they are the head' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand quantize" -l head -d 'For a head of its own' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand quantize" -l expert -d 'For experts behind a router' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand quantize" -l override -d 'For tensors by name; `*` stands for anything, the last that fits counts (repeatable)' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand quantize" -l dtype -d 'Type of what is not packed, and of scales [default: that of the model]' -r -f -a "bf16\t''
f16\t''
f32\t''"
complete -c mlxr -n "__fish_mlxr_using_subcommand quantize" -l memory -d 'Memory for what is read and written, and for the models of --report and --target-bpw, as `2GiB`' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand quantize" -l threads -d 'Threads that compute [default: one for each core]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand quantize" -l verify -d 'Hold a packed model against what it says of itself: shapes, scales, digests' -r -F
complete -c mlxr -n "__fish_mlxr_using_subcommand quantize" -l report -d 'Measure what was lost on a text, the sample or a file: divergence, agreement, perplexity; also kept beside the weights' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand quantize" -l max-kld -d 'End with code 1 if the mean divergence, in nats per token, is above X' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand quantize" -l force -d 'Replace DIR even if this command did not make it'
complete -c mlxr -n "__fish_mlxr_using_subcommand quantize" -l explain -d 'Show each tensor with its role, its packing, the reason and its size'
complete -c mlxr -n "__fish_mlxr_using_subcommand quantize" -l dry-run -d 'Write nothing, and show what would be written'
complete -c mlxr -n "__fish_mlxr_using_subcommand quantize" -l json -d 'Print one JSON object'
complete -c mlxr -n "__fish_mlxr_using_subcommand quantize" -s q -l quiet -d 'Print nothing on stderr but errors'
complete -c mlxr -n "__fish_mlxr_using_subcommand quantize" -s v -l verbose -d 'Say which model, device and library are used, and how long things took'
complete -c mlxr -n "__fish_mlxr_using_subcommand quantize" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and not __fish_seen_subcommand_from start cache tokenize help" -s m -l model -d 'Folder or `org/name[@revision]` of the hub [env: `MLXR_MODEL`] [default: the built-in model]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and not __fish_seen_subcommand_from start cache tokenize help" -l device -d 'Where to compute; `auto` is the GPU where there is one' -r -f -a "auto\t''
cpu\t''
gpu\t''"
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and not __fish_seen_subcommand_from start cache tokenize help" -l threads -d 'Threads that compute on the CPU [default: one for each core]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and not __fish_seen_subcommand_from start cache tokenize help" -l random -d 'Measure the shape of a known model with made-up weights' -r -f -a "qwen3-0.6b\t''
qwen3-1.7b\t''
qwen3-4b\t''
qwen3-8b\t''
qwen3-30b-a3b\t''
llama-3.2-1b\t''
llama-3.2-3b\t''
llama-3.1-8b\t''
gemma-3-1b\t''
gemma-3-4b\t''
qwen3-next-80b-8l\t''
glm-4.7-flash-12l\t''"
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and not __fish_seen_subcommand_from start cache tokenize help" -l quant -d 'How made-up matrices are packed: affine<BITS>g<GROUP>, mxfp4, mxfp8, nvfp4, or none (bf16)' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and not __fish_seen_subcommand_from start cache tokenize help" -s p -l prompt -d 'Tokens of prompts' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and not __fish_seen_subcommand_from start cache tokenize help" -s n -l generate -d 'Tokens to generate' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and not __fish_seen_subcommand_from start cache tokenize help" -l pg -d 'A prompt of P tokens, then N generated ones, timed together (repeatable)' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and not __fish_seen_subcommand_from start cache tokenize help" -s d -l depth -d 'Tokens that are there before each test' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and not __fish_seen_subcommand_from start cache tokenize help" -s b -l concurrency -d 'Sequences that are computed together' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and not __fish_seen_subcommand_from start cache tokenize help" -s r -l repetitions -d 'Times that each test is timed' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and not __fish_seen_subcommand_from start cache tokenize help" -l delay -d 'Wait before each test, for the machine to cool down' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and not __fish_seen_subcommand_from start cache tokenize help" -s o -l output -d 'Form of the results [default: a table on a terminal, else md]' -r -f -a "md\t''
csv\t''
json\t''
jsonl\t''
sql\t''"
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and not __fish_seen_subcommand_from start cache tokenize help" -l baseline -d 'Compare with the results that an earlier run wrote with `-o json`' -r -F
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and not __fish_seen_subcommand_from start cache tokenize help" -l fail-if -d 'End with code 1 if the median rate of a test falls so far below the baseline\'s: pp<-5%, tg<-3%, \'tg128 @ d2048<-3%\' (repeatable)' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and not __fish_seen_subcommand_from start cache tokenize help" -l cpu-exact -d 'Compute and keep float32 on the CPU, instead of rounding to 8 bits beside packed weights'
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and not __fish_seen_subcommand_from start cache tokenize help" -s q -l quiet -d 'Print nothing on stderr but errors'
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and not __fish_seen_subcommand_from start cache tokenize help" -s v -l verbose -d 'Say which model, device and library are used, and how long things took'
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and not __fish_seen_subcommand_from start cache tokenize help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and not __fish_seen_subcommand_from start cache tokenize help" -f -a "start" -d 'Measure from the start of the program to its first token'
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and not __fish_seen_subcommand_from start cache tokenize help" -f -a "cache" -d 'Measure prompts that begin as earlier ones did'
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and not __fish_seen_subcommand_from start cache tokenize help" -f -a "tokenize" -d 'Measure how fast text is turned into tokens and back'
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and not __fish_seen_subcommand_from start cache tokenize help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from start" -s m -l model -d 'Folder or `org/name[@revision]` of the hub [env: `MLXR_MODEL`] [default: the built-in model]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from start" -l device -d 'Where to compute; `auto` is the GPU where there is one' -r -f -a "auto\t''
cpu\t''
gpu\t''"
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from start" -l threads -d 'Threads that compute on the CPU [default: one for each core]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from start" -s r -l repetitions -d 'Times that the program is started' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from start" -s o -l output -d 'Form of the results [default: a table on a terminal, else md]' -r -f -a "md\t''
csv\t''
json\t''
jsonl\t''
sql\t''"
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from start" -l cpu-exact -d 'Compute and keep float32 on the CPU, instead of rounding to 8 bits beside packed weights'
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from start" -s q -l quiet -d 'Print nothing on stderr but errors'
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from start" -s v -l verbose -d 'Say which model, device and library are used, and how long things took'
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from start" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from cache" -s m -l model -d 'Folder or `org/name[@revision]` of the hub [env: `MLXR_MODEL`] [default: the built-in model]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from cache" -l device -d 'Where to compute; `auto` is the GPU where there is one' -r -f -a "auto\t''
cpu\t''
gpu\t''"
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from cache" -l threads -d 'Threads that compute on the CPU [default: one for each core]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from cache" -l random -d 'Measure the shape of a known model with made-up weights' -r -f -a "qwen3-0.6b\t''
qwen3-1.7b\t''
qwen3-4b\t''
qwen3-8b\t''
qwen3-30b-a3b\t''
llama-3.2-1b\t''
llama-3.2-3b\t''
llama-3.1-8b\t''
gemma-3-1b\t''
gemma-3-4b\t''
qwen3-next-80b-8l\t''
glm-4.7-flash-12l\t''"
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from cache" -l quant -d 'How made-up matrices are packed: affine<BITS>g<GROUP>, mxfp4, mxfp8, nvfp4, or none (bf16)' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from cache" -l cache -d 'Keep what is computed of prompts in a folder, for later ones that begin alike [default DIR: mlxr in `XDG_CACHE_HOME` or ~/.cache]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from cache" -l cache-size -d 'What the folder may hold: the prompts used longest ago go' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from cache" -l memory -d 'Memory for everything, weights, sequences and kept prompts, as `12GiB`; what a GPU has no room for goes to the host\'s memory, as much again at most [default: three quarters of what the device has, or what it can give now]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from cache" -s p -l prompt -d 'Tokens of the conversation' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from cache" -s r -l repetitions -d 'Conversations' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from cache" -s o -l output -d 'Form of the results [default: a table on a terminal, else md]' -r -f -a "md\t''
csv\t''
json\t''
jsonl\t''
sql\t''"
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from cache" -l cpu-exact -d 'Compute and keep float32 on the CPU, instead of rounding to 8 bits beside packed weights'
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from cache" -s q -l quiet -d 'Print nothing on stderr but errors'
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from cache" -s v -l verbose -d 'Say which model, device and library are used, and how long things took'
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from cache" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from tokenize" -s m -l model -d 'Folder or `org/name[@revision]` of the hub, of which no weights are fetched [env: `MLXR_MODEL`] [default: the built-in model]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from tokenize" -s f -l file -d 'Text to measure with (repeatable) [default: 1 MB of made-up prose, code and several scripts]' -r -F
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from tokenize" -l engine -d 'Engines to measure, separated by commas [default: both]' -r -f -a "mlxr\t''
reference\t''"
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from tokenize" -l threads -d 'Threads that encode at the same time with one tokenizer, each a copy of the text; a list as in `bench`' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from tokenize" -s r -l repetitions -d 'Times that each test is timed' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from tokenize" -s o -l output -d 'Form of the results [default: a table on a terminal, else md]' -r -f -a "md\t''
csv\t''
json\t''
jsonl\t''
sql\t''"
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from tokenize" -l baseline -d 'Compare with the results that an earlier run wrote with `--json` or `-o json`: behind a figure of the table is how many times as fast it is' -r -F
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from tokenize" -l fail-if -d 'End with code 1 if the median speed of a test falls so far below the baseline\'s: warm<-5%, \'cold mlxr FILE<-3%\' (repeatable)' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from tokenize" -l json -d 'Print each result as a line of JSON: -o jsonl'
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from tokenize" -s q -l quiet -d 'Print nothing on stderr but errors'
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from tokenize" -s v -l verbose -d 'Say which model, device and library are used, and how long things took'
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from tokenize" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from help" -f -a "start" -d 'Measure from the start of the program to its first token'
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from help" -f -a "cache" -d 'Measure prompts that begin as earlier ones did'
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from help" -f -a "tokenize" -d 'Measure how fast text is turned into tokens and back'
complete -c mlxr -n "__fish_mlxr_using_subcommand bench; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and not __fish_seen_subcommand_from ls inspect warm explain rm prune help" -s q -l quiet -d 'Print nothing on stderr but errors'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and not __fish_seen_subcommand_from ls inspect warm explain rm prune help" -s v -l verbose -d 'Say which model, device and library are used, and how long things took'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and not __fish_seen_subcommand_from ls inspect warm explain rm prune help" -s h -l help -d 'Print help'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and not __fish_seen_subcommand_from ls inspect warm explain rm prune help" -f -a "ls" -d 'List downloaded models and kept prompts, with their sizes'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and not __fish_seen_subcommand_from ls inspect warm explain rm prune help" -f -a "inspect" -d 'Show which prompts are kept'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and not __fish_seen_subcommand_from ls inspect warm explain rm prune help" -f -a "warm" -d 'Compute a prompt and keep it, for later ones that begin alike'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and not __fish_seen_subcommand_from ls inspect warm explain rm prune help" -f -a "explain" -d 'Compute two prompts, and tell what the second takes over from the first'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and not __fish_seen_subcommand_from ls inspect warm explain rm prune help" -f -a "rm" -d 'Remove models or prompts by name'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and not __fish_seen_subcommand_from ls inspect warm explain rm prune help" -f -a "prune" -d 'Remove prompts that were not used for long, or until the others fit'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and not __fish_seen_subcommand_from ls inspect warm explain rm prune help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from ls" -l json -d 'Print a JSON array'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from ls" -s q -l quiet -d 'Print nothing on stderr but errors'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from ls" -s v -l verbose -d 'Say which model, device and library are used, and how long things took'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from ls" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from inspect" -l find -d 'Show only those with this text, and what they go on from' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from inspect" -l json -d 'Print a JSON array'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from inspect" -l text -d 'Show how the text of each begins'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from inspect" -l verify -d 'Hold all bytes against their digests; a damaged file is an error'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from inspect" -s q -l quiet -d 'Print nothing on stderr but errors'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from inspect" -s v -l verbose -d 'Say which model, device and library are used, and how long things took'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from inspect" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from warm" -s m -l model -d 'Folder or `org/name[@revision]` of the hub [env: `MLXR_MODEL`] [default: the built-in model]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from warm" -l device -d 'Where to compute; `auto` is the GPU where there is one' -r -f -a "auto\t''
cpu\t''
gpu\t''"
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from warm" -l threads -d 'Threads that compute on the CPU [default: one for each core]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from warm" -l cache -d 'Keep what is computed of prompts in a folder, for later ones that begin alike [default DIR: mlxr in `XDG_CACHE_HOME` or ~/.cache]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from warm" -l cache-size -d 'What the folder may hold: the prompts used longest ago go' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from warm" -l memory -d 'Memory for everything, weights, sequences and kept prompts, as `12GiB`; what a GPU has no room for goes to the host\'s memory, as much again at most [default: three quarters of what the device has, or what it can give now]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from warm" -s s -l system -d 'System message' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from warm" -l prefill -d 'Begin the answer with TEXT (it is not printed again)' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from warm" -l think -d 'Let the model think, or not [default: the model\'s]' -r -f -a "on\t''
off\t''
low\t''
medium\t''
high\t''"
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from warm" -l template-arg -d 'Variable for the chat template; VALUE is JSON or else text (repeatable)' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from warm" -l cpu-exact -d 'Compute and keep float32 on the CPU, instead of rounding to 8 bits beside packed weights'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from warm" -l raw -d 'Send the prompt as it is, without chat template, and print all that the model produces'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from warm" -l json -d 'Print a JSON array with one object'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from warm" -s q -l quiet -d 'Print nothing on stderr but errors'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from warm" -s v -l verbose -d 'Say which model, device and library are used, and how long things took'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from warm" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from explain" -s m -l model -d 'Folder or `org/name[@revision]` of the hub [env: `MLXR_MODEL`] [default: the built-in model]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from explain" -l device -d 'Where to compute; `auto` is the GPU where there is one' -r -f -a "auto\t''
cpu\t''
gpu\t''"
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from explain" -l threads -d 'Threads that compute on the CPU [default: one for each core]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from explain" -l memory -d 'Memory for everything, weights, sequences and kept prompts, as `12GiB`; what a GPU has no room for goes to the host\'s memory, as much again at most [default: three quarters of what the device has, or what it can give now]' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from explain" -s s -l system -d 'System message' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from explain" -l prefill -d 'Begin the answer with TEXT (it is not printed again)' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from explain" -l think -d 'Let the model think, or not [default: the model\'s]' -r -f -a "on\t''
off\t''
low\t''
medium\t''
high\t''"
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from explain" -l template-arg -d 'Variable for the chat template; VALUE is JSON or else text (repeatable)' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from explain" -l cpu-exact -d 'Compute and keep float32 on the CPU, instead of rounding to 8 bits beside packed weights'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from explain" -l raw -d 'Send the prompt as it is, without chat template, and print all that the model produces'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from explain" -l json -d 'Print a JSON object'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from explain" -s q -l quiet -d 'Print nothing on stderr but errors'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from explain" -s v -l verbose -d 'Say which model, device and library are used, and how long things took'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from explain" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from rm" -l cache -d 'What `mlxr run --cache` keeps prompts in [default: mlxr in `XDG_CACHE_HOME` or ~/.cache]' -r -F
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from rm" -s y -l yes -d 'Do not ask'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from rm" -l dry-run -d 'Remove nothing'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from rm" -s q -l quiet -d 'Print nothing on stderr but errors'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from rm" -s v -l verbose -d 'Say which model, device and library are used, and how long things took'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from rm" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from prune" -l unused -d 'Those that nobody has used for so long: 30days, 12h' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from prune" -l to -d 'Those used longest ago, until the others take no more: 5GiB, 0B' -r
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from prune" -l dry-run -d 'Remove nothing'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from prune" -s q -l quiet -d 'Print nothing on stderr but errors'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from prune" -s v -l verbose -d 'Say which model, device and library are used, and how long things took'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from prune" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "ls" -d 'List downloaded models and kept prompts, with their sizes'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "inspect" -d 'Show which prompts are kept'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "warm" -d 'Compute a prompt and keep it, for later ones that begin alike'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "explain" -d 'Compute two prompts, and tell what the second takes over from the first'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "rm" -d 'Remove models or prompts by name'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "prune" -d 'Remove prompts that were not used for long, or until the others fit'
complete -c mlxr -n "__fish_mlxr_using_subcommand cache; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c mlxr -n "__fish_mlxr_using_subcommand doctor" -l json -d 'Print one JSON object'
complete -c mlxr -n "__fish_mlxr_using_subcommand doctor" -s q -l quiet -d 'Print nothing on stderr but errors'
complete -c mlxr -n "__fish_mlxr_using_subcommand doctor" -s v -l verbose -d 'Say which model, device and library are used, and how long things took'
complete -c mlxr -n "__fish_mlxr_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c mlxr -n "__fish_mlxr_using_subcommand help; and not __fish_seen_subcommand_from run serve runner tokenize quantize bench cache doctor help" -f -a "run" -d 'Answer a prompt, a file of prompts, or chat'
complete -c mlxr -n "__fish_mlxr_using_subcommand help; and not __fish_seen_subcommand_from run serve runner tokenize quantize bench cache doctor help" -f -a "serve" -d 'Serve models over HTTP: OpenAI\'s, Anthropic\'s and Ollama\'s interfaces'
complete -c mlxr -n "__fish_mlxr_using_subcommand help; and not __fish_seen_subcommand_from run serve runner tokenize quantize bench cache doctor help" -f -a "runner" -d 'Answer requests on standard input: what `serve` starts for each model'
complete -c mlxr -n "__fish_mlxr_using_subcommand help; and not __fish_seen_subcommand_from run serve runner tokenize quantize bench cache doctor help" -f -a "tokenize" -d 'Turn text into tokens and back, count them, compare tokenizers'
complete -c mlxr -n "__fish_mlxr_using_subcommand help; and not __fish_seen_subcommand_from run serve runner tokenize quantize bench cache doctor help" -f -a "quantize" -d 'Make a model smaller: fewer bits for each weight'
complete -c mlxr -n "__fish_mlxr_using_subcommand help; and not __fish_seen_subcommand_from run serve runner tokenize quantize bench cache doctor help" -f -a "bench" -d 'Measure how fast a model computes'
complete -c mlxr -n "__fish_mlxr_using_subcommand help; and not __fish_seen_subcommand_from run serve runner tokenize quantize bench cache doctor help" -f -a "cache" -d 'Look into what is kept of models and prompts, add to it and remove it'
complete -c mlxr -n "__fish_mlxr_using_subcommand help; and not __fish_seen_subcommand_from run serve runner tokenize quantize bench cache doctor help" -f -a "doctor" -d 'Tell what there is to compute with, and what is amiss'
complete -c mlxr -n "__fish_mlxr_using_subcommand help; and not __fish_seen_subcommand_from run serve runner tokenize quantize bench cache doctor help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c mlxr -n "__fish_mlxr_using_subcommand help; and __fish_seen_subcommand_from bench" -f -a "start" -d 'Measure from the start of the program to its first token'
complete -c mlxr -n "__fish_mlxr_using_subcommand help; and __fish_seen_subcommand_from bench" -f -a "cache" -d 'Measure prompts that begin as earlier ones did'
complete -c mlxr -n "__fish_mlxr_using_subcommand help; and __fish_seen_subcommand_from bench" -f -a "tokenize" -d 'Measure how fast text is turned into tokens and back'
complete -c mlxr -n "__fish_mlxr_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "ls" -d 'List downloaded models and kept prompts, with their sizes'
complete -c mlxr -n "__fish_mlxr_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "inspect" -d 'Show which prompts are kept'
complete -c mlxr -n "__fish_mlxr_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "warm" -d 'Compute a prompt and keep it, for later ones that begin alike'
complete -c mlxr -n "__fish_mlxr_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "explain" -d 'Compute two prompts, and tell what the second takes over from the first'
complete -c mlxr -n "__fish_mlxr_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "rm" -d 'Remove models or prompts by name'
complete -c mlxr -n "__fish_mlxr_using_subcommand help; and __fish_seen_subcommand_from cache" -f -a "prune" -d 'Remove prompts that were not used for long, or until the others fit'
