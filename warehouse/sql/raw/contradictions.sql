-- grain: one row per contradiction and pair that it touches
-- contradiction_id: content hash of kind and evidence
-- kind: between_annotators, within_annotator, between_orders, between_near_duplicates, between_sources or transitive
-- pair_id: the pair
-- other_pair_id: the pair that contradicts it, where it is another one
-- annotator_id: the annotator, for within_annotator
-- num_for: judgments for the pair's chosen response
-- num_against: judgments against it
-- evidence: ids of the judgments, responses or pairs that show it, as JSON
-- run_id: run that wrote it
create table raw.contradictions (
    contradiction_id varchar not null,
    kind varchar not null,
    pair_id varchar not null,
    other_pair_id varchar,
    annotator_id varchar,
    num_for integer,
    num_against integer,
    evidence varchar not null,
    run_id varchar not null
);
