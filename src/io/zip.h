// Where the entries of a zip file lie, for files whose entries are stored without compression, as
// torch.save writes them. Enough of the format (https://pkware.com/appnote) for that, zip64
// included; every offset is checked against the file.
#pragma once

#include <map>
#include <string>
#include <string_view>

namespace quench {

// Entry name -> its bytes within `file`. `where` names the file in errors. Throws Error.
std::map<std::string, std::string_view> stored_entries(std::string_view file,
                                                       const std::string& where);

}  // namespace quench
