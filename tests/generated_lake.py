"""A lake of any number of pairs, made by SQL from hashes: three responses and three pairs a prompt."""

from __future__ import annotations

import duckdb

from flows.lineage import Run
from warehouse.lake import Lake

REFERENCE_ID = "reference-1"

_RESPONSES = """
    select
        md5('prompt' || p) as prompt_id,
        md5('response' || p || '-' || r) as response_id,
        p,
        r,
        hash(p, r) % 1000000 / 1e6 as u,
        hash(p, r, 'tokens') % 60 + 2 as num_tokens
    from range({num_prompts}) as prompts(p), range(3) as responses(r)
"""

_PAIRS = """
    select
        md5('prompt' || p) as prompt_id,
        least(md5('response' || p || '-' || i), md5('response' || p || '-' || j)) as low,
        greatest(md5('response' || p || '-' || i), md5('response' || p || '-' || j)) as high,
        p * 3 + i + j - 1 as k,
        hash(p, i, j, {seed}) % 1000000 / 1e6 as u
    from range({num_prompts}) as prompts(p), (values (0, 1), (0, 2), (1, 2)) as edges(i, j)
"""

_SENTENCE = "repeat(' ' || r || ' and a plain sentence of answer ' || p || ', which goes on for a while.', {repeat})"


def fill(lake: Lake, *, num_pairs: int, with_text: bool = True, repeat: int = 2) -> None:
    """Fill prompts, responses, scores, features and estimates; commit as an ingest, a score and a diagnose run.

    Args:
        lake: an empty lake.
        num_pairs: a multiple of three.
        with_text: also fill prompts and responses, which only an export reads.
        repeat: sentences of a response.
    """
    num_prompts = num_pairs // 3

    def ingest(con: duckdb.DuckDBPyConnection) -> None:
        if with_text:
            sentence = _SENTENCE.format(repeat=repeat)
            con.execute(
                "insert into raw.prompts select md5('prompt' || p),"
                " '[{\"role\":\"user\",\"content\":\"Question number ' || p || ' is this?\"}]', 'made', 'ingest-made'"
                f" from range({num_prompts}) as prompts(p)"
            )
            con.execute(
                "insert into raw.responses by name"
                f" select response_id, prompt_id, 'Answer' || {sentence} as text, 'made' as source,"
                f" 'ingest-made' as run_id from ({_RESPONSES.format(num_prompts=num_prompts)})"
            )
        Run.start("ingest", input_hash="made", settings={}).record(con, num_changed=num_pairs)

    lake.transact("ingest", ingest)
    lake.transact("score", lambda con: _score(con, num_prompts))
    diagnose(lake, num_pairs=num_pairs)


def diagnose(lake: Lake, *, num_pairs: int, seed: int = 0) -> None:
    """Write the estimates of every pair; another seed is another state of the votes."""
    num_prompts = num_pairs // 3
    pairs = _PAIRS.format(num_prompts=num_prompts, seed=seed)

    def work(con: duckdb.DuckDBPyConnection) -> None:
        for table in ("pair_estimates", "pair_features", "near_duplicates", "response_features"):
            con.execute(f"delete from raw.{table}")
        con.execute(
            f"""
            insert into raw.pair_estimates by name
            select
                md5(low || high) as pair_id, prompt_id, 'overall' as criterion, 'made' as source,
                if(u < 0.5, low, high) as chosen_id, if(u < 0.5, high, low) as rejected_id,
                3 as num_votes, if(u % 0.1 < 0.05, 3, 2) as num_votes_chosen,
                if(u % 0.1 < 0.05, 0, 1) as num_votes_rejected, 0 as num_ties, 3 as num_annotators,
                if(k % 97 = 0, 0.5, 0.55 + 0.4 * (u % 0.5) * 2) as p_chosen, 0.05 as p_tie,
                0.5 + 0.49 * (u % 0.5) * 2 as p_consensus_right, k % 97 = 0 as is_tied,
                null as is_taste_split, null as vote_q_value, 'diagnose-made' as run_id
            from ({pairs})
            """
        )
        con.execute(
            f"""
            insert into raw.pair_features by name
            select md5(low || high) as pair_id, k % 89 = 0 as is_identical, u as response_similarity,
                u > 0.99 as is_near_identical, 'diagnose-made' as run_id
            from ({pairs})
            """
        )
        con.execute(
            f"""
            insert into raw.response_features by name
            select response_id, 40 as num_chars, p % 101 = 0 and r = 0 as is_empty, u < 0.01 as is_refusal,
                false as is_cut_off, 'en' as language, false as is_language_mismatch, 'diagnose-made' as run_id
            from ({_RESPONSES.format(num_prompts=num_prompts)})
            """
        )
        con.execute(
            f"""
            insert into raw.near_duplicates by name
            select 'prompt' as kind, md5('prompt' || p) as item_id,
                md5('prompt' || (p - p % 2)) as group_id, 'diagnose-made' as run_id
            from range({num_prompts}) as prompts(p) where p % 20 < 2
            """
        )
        Run.start("diagnose", input_hash=f"made-{seed}", settings={}).record(con, num_changed=num_pairs)

    lake.transact("diagnose", work)


def _score(con: duckdb.DuckDBPyConnection, num_prompts: int) -> None:
    con.execute(
        f"""
        insert into raw.reference_policies by name
        select '{REFERENCE_ID}' as reference_id, 'made/policy' as model, 'w' as weights_hash, 't' as tokenizer_hash,
            'plain' as template, 1024 as max_length, 'never' as truncate, now()::timestamp as created_at,
            'score-made' as run_id
        """
    )
    con.execute(
        f"""
        insert into raw.reference_scores by name
        select '{REFERENCE_ID}' as reference_id, response_id, -(u + 0.5) * num_tokens / 4 as logps, num_tokens,
            12 as num_prompt_tokens, false as is_truncated, 'made' as engine, 'sql' as engine_path,
            '0' as engine_version, 'float32' as dtype, now()::timestamp as scored_at, 'score-made' as run_id
        from ({_RESPONSES.format(num_prompts=num_prompts)})
        """
    )
    Run.start("score", input_hash="made", settings={}).record(con, num_changed=num_prompts * 3)
