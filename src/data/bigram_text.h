// The text whose characters and pairs of characters Bigram-Backcopy takes where none is given: two
// speeches from As You Like It (William Shakespeare, 1599; free of rights), the Duke's of II.1 and
// Jaques' of II.7. In lower case, since of so short a text a rare capital would have no follower
// but a trigger, and so stay for ever. Part of every such result: never change it.
#pragma once

#include <string_view>

namespace quench {

inline constexpr std::string_view kBigramText =
    R"(now, my co-mates and brothers in exile,
hath not old custom made this life more sweet
than that of painted pomp? are not these woods
more free from peril than the envious court?
here feel we but the penalty of adam,
the seasons' difference, as the icy fang
and churlish chiding of the winter's wind,
which, when it bites and blows upon my body,
even till i shrink with cold, i smile and say
'this is no flattery: these are counsellors
that feelingly persuade me what i am.'
sweet are the uses of adversity,
which, like the toad, ugly and venomous,
wears yet a precious jewel in his head;
and this our life exempt from public haunt
finds tongues in trees, books in the running brooks,
sermons in stones and good in every thing.
i would not change it.

all the world's a stage,
and all the men and women merely players:
they have their exits and their entrances;
and one man in his time plays many parts,
his acts being seven ages. at first the infant,
mewling and puking in the nurse's arms.
and then the whining school-boy, with his satchel
and shining morning face, creeping like snail
unwillingly to school. and then the lover,
sighing like furnace, with a woeful ballad
made to his mistress' eyebrow. then a soldier,
full of strange oaths and bearded like the pard,
jealous in honour, sudden and quick in quarrel,
seeking the bubble reputation
even in the cannon's mouth. and then the justice,
in fair round belly with good capon lined,
with eyes severe and beard of formal cut,
full of wise saws and modern instances;
and so he plays his part. the sixth age shifts
into the lean and slipper'd pantaloon,
with spectacles on nose and pouch on side,
his youthful hose, well saved, a world too wide
for his shrunk shank; and his big manly voice,
turning again toward childish treble, pipes
and whistles in his sound. last scene of all,
that ends this strange eventful history,
is second childishness and mere oblivion,
sans teeth, sans eyes, sans taste, sans everything.
)";

}  // namespace quench
