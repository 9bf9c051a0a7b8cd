-- grain: one row per vote of one annotator on two responses and one criterion
-- judgment_id: content hash of source and vote, and of the number of equal votes above it in the source
-- pair_id: content hash of the unordered responses and the criterion
-- prompt_id: prompt of both responses
-- response_a_id: the response shown first (left, or chosen where the source gives no order)
-- response_b_id: the response shown second
-- criterion: what was asked, 'overall' where the source does not say
-- vote: a, b or tie, in display order
-- is_display_order_known: whether a and b are the order in which the annotator saw them
-- strength: strength of the preference as given
-- strength_ordinal: strength as a rank within its source, 1 the weakest
-- is_both_bad: a tie because both responses are bad
-- annotator_id: who voted; NULL where the source does not say
-- annotator_kind: human or model; NULL where the source does not say
-- annotated_at [UTC]: when
-- batch: batch or task of the annotation
-- source_split: split that the source gives
-- source: name of the source
-- source_row: row in the source, from 0, when it was inserted
-- extra: other columns of the row, as JSON
-- run_id: run that inserted it
create table raw.judgments (
    judgment_id varchar not null,
    pair_id varchar not null,
    prompt_id varchar not null,
    response_a_id varchar not null,
    response_b_id varchar not null,
    criterion varchar not null,
    vote varchar not null,
    is_display_order_known boolean not null,
    strength double,
    strength_ordinal smallint,
    is_both_bad boolean not null,
    annotator_id varchar,
    annotator_kind varchar,
    annotated_at timestamp,
    batch varchar,
    source_split varchar,
    source varchar not null,
    source_row bigint not null,
    extra varchar,
    run_id varchar not null
);
