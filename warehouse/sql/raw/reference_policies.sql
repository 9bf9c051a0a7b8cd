-- grain: one row per reference policy
-- reference_id: content hash of weights, tokenizer, chat template, template mode, adapter and quantisation
-- model: folder, absolute, or Hub id
-- revision: Hub revision, where there is one
-- weights_hash: SHA-256 over the weight files
-- tokenizer_hash: SHA-256 over the tokenizer's files
-- chat_template_hash: SHA-256 of the chat template; NULL without one
-- template: how prompts were rendered, chat or plain
-- adapter: LoRA adapter, where there is one
-- quantization: quantisation of the weights, where there is one
-- max_length [tokens]: longest prompt and response that the policy takes
-- truncate: never, or left where prompts were cut
-- created_at [UTC]: when it was first used
-- run_id: run that inserted it
create table raw.reference_policies (
    reference_id varchar not null,
    model varchar not null,
    revision varchar,
    weights_hash varchar not null,
    tokenizer_hash varchar not null,
    chat_template_hash varchar,
    template varchar not null,
    adapter varchar,
    quantization varchar,
    max_length integer not null,
    truncate varchar not null,
    created_at timestamp not null,
    run_id varchar not null
);
