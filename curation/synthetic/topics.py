"""What the generated world talks about: everyday topics with true advice, of which good responses are made."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic.

    Attributes:
        name: as a gerund, "growing tomatoes on a balcony".
        steps: six pieces of good advice, imperative, without a full stop.
        reasons: three facts that explain them, without a full stop.
    """

    name: str
    steps: tuple[str, ...]
    reasons: tuple[str, ...]


_TOPICS = """
growing tomatoes on a balcony
    water the soil deeply at sunrise | tie the stems to a tall stake | pinch off the side shoots
    choose a pot with holes in the bottom | feed the plants with diluted fertiliser | move the pots into full sun
    = roots rot when the pot stays wet | leaves dry faster in morning light | a tall plant breaks without support
baking bread at home
    weigh the flour on a kitchen scale | let the dough rest in a warm bowl | score the loaf with a sharp blade
    heat the oven before the loaf goes in | fold the dough every half hour | bake it in a covered pot
    = gluten needs time to relax | steam keeps the crust soft enough to rise | yeast works slowly in a cold room
repairing a flat bicycle tyre
    let the remaining air out of the tube | loosen the bead with two levers | roughen the rubber around the hole
    check the tyre for glass and thorns | press the patch down for a full minute | pump the tube a little at first
    = glue holds only on rough rubber | a hidden thorn makes the same hole again | a dry tube gets pinched by the rim
learning the guitar
    practise slow chord changes each evening | tune every string before you play | count the rhythm out loud
    keep the thumb behind the neck | learn one short song from start to end | record yourself on a phone
    = fingers remember slow movements best | an untuned string spoils the ear | short sessions beat one long evening
training a young dog
    reward the right behaviour at once | use the same short word every time | practise in a quiet room first
    end each lesson with a success | keep the lessons under ten minutes | walk away from rough play
    = a puppy forgets within seconds | mixed commands confuse every animal | tired dogs stop listening
painting a bedroom wall
    wash the wall with warm soapy water | cover the floor with an old sheet | cut in the corners with a small brush
    roll the paint on in a wide zigzag | let the first coat dry overnight | remove the tape while the edge is soft
    = dust keeps paint from sticking | thick coats run and leave drops | wet edges blend without a line
saving money every month
    write down each purchase for a month | move a fixed sum on pay day | cancel the subscriptions you never open
    cook a large meal on Sunday | compare the prices of insurance | keep a small fund for emergencies
    = small costs add up unseen | money that is out of sight stays unspent | a plan survives a bad week
sleeping better at night
    keep the bedroom dark and cool | get up at the same hour each day | put the phone in another room
    drink coffee only before noon | take a short walk after dinner | read a paper book in bed
    = bright screens delay the inner clock | a regular hour trains the body | caffeine lingers for many hours
writing a cover letter
    name the exact position in the first line | describe one result with a number | keep it on a single page
    ask a friend to proofread it | match the words of the advertisement | close with a clear next step
    = readers decide within half a minute | numbers are easier to believe | a typing error looks careless
hiking in the mountains
    read the weather report before leaving | pack a warm layer and a lamp | tell someone which path you take
    start early in the morning | drink before you feel thirsty | turn back when the fog comes in
    = storms form in the afternoon | a phone has no signal in a valley | cold wind drains strength quickly
keeping bees in a garden
    place the hive towards the morning sun | check the frames every nine days | leave enough honey for the winter
    offer a shallow dish of water | wear a veil and light clothes | treat the colony against mites
    = a crowded colony swarms in May | bees fly straight out of the entrance | mites weaken the winter bees
brewing coffee in the morning
    grind the beans just before brewing | use water just below boiling | rinse the paper filter first
    weigh sixteen parts water to one of coffee | pour in slow circles | clean the pot with vinegar
    = ground beans lose their smell quickly | boiling water makes the cup bitter | old oil turns rancid
preparing for an exam
    solve last year's questions on paper | explain each chapter to a friend | plan a rest day before the test
    sort the topics by their weight | repeat hard cards the next morning | study in blocks of forty minutes
    = recalling beats reading again | a tired mind mixes up details | spaced practice stays in memory
cleaning a cast iron pan
    scrub it with coarse salt | dry it on a warm stove | rub a thin film of oil into it
    rinse it with hot water only | scrape off the crumbs while it is warm | store it in a dry cupboard
    = water left on iron turns to rust | soap soaks dissolve the coating | thin oil hardens into a skin
planning a small wedding
    agree on the number of guests first | book the room a year ahead | ask three caterers for an offer
    write a schedule for the day | choose music that old and young enjoy | keep a list of every payment
    = the guest list decides every cost | good rooms are taken early | late changes are always expensive
fixing a dripping tap
    shut the valve under the sink | take a picture before each step | replace the worn rubber washer
    wrap the thread with sealing tape | bring the old part to the shop | open the tap slowly at the end
    = a worn washer cannot close the seat | parts differ by half a millimetre | pressure splashes when a valve is open
running a first race
    add a little distance each week | run slowly enough to talk | rest two days in every seven
    replace the shoes when the sole is flat | warm up with ten minutes of walking | eat something light beforehand
    = tendons grow stronger more slowly than lungs | most injuries come from haste | muscles repair on rest days
taking photographs of birds
    hide behind a bush and wait | focus on the nearest eye | use a short exposure time
    keep the sun behind your back | learn where they feed at dawn | rest the camera on a bag of beans
    = birds fear sudden movement | wings blur at slow shutter speeds | low light brings out the feathers
making vegetable soup
    fry the onions until they are golden | add the soft vegetables last | season it at the very end
    simmer it with the lid half open | keep the peels for the stock | blend a third of it for body
    = browned onions give most of the flavour | long boiling turns greens grey | salt concentrates as water leaves
moving to a new flat
    label every box on two sides | pack the heavy books in small boxes | measure the doors and the stairs
    read the meters on the last day | carry the documents yourself | tell the post office the new address
    = large boxes of books tear open | deposits depend on a written record | lost papers are hard to replace
teaching a child to swim
    begin in warm shallow water | blow bubbles together at the surface | hold the child under the arms
    praise every brave attempt | practise floating on the back | stop before the child is cold
    = fear comes from water in the nose | a cold child cannot learn | floating gives trust in the water
choosing a used car
    look under the car for rust | drive it on a fast road | read the service book page by page
    start the engine when it is cold | compare the number on the frame | let a mechanic see it before paying
    = a warm engine hides its faults | fresh paint can cover an accident | missing stamps mean missing care
growing herbs indoors
    place the pots on a bright sill | cut the tips often to keep them bushy | turn the pots every few days
    water from below with a saucer | give each herb its own pot | mix some sand into the soil
    = herbs bend towards the light | flowering makes the leaves bitter | mint crowds out every neighbour
speaking in front of people
    rehearse the opening until it is easy | look at one friendly face at a time | pause after each main point
    write key words on small cards | breathe out slowly before you begin | arrive early and test the microphone
    = the first minute calms the nerves | listeners need time to follow | reading aloud sounds flat
"""


def _parse(text: str) -> tuple[Topic, ...]:
    topics: list[Topic] = []
    for line in text.strip().splitlines():
        parts = tuple(part.strip() for part in line.strip().removeprefix("=").split("|"))
        if not line.startswith(" "):
            topics.append(Topic(line.strip(), (), ()))
        elif line.strip().startswith("="):
            topics[-1] = Topic(topics[-1].name, topics[-1].steps, parts)
        else:
            topics[-1] = Topic(topics[-1].name, topics[-1].steps + parts, ())
    return tuple(topics)


TOPICS = _parse(_TOPICS)
"""Every topic, in a fixed order: its index stands in the truth."""
